"""Tests that beams may share, change and outlive history without a mix-up."""

import pytest
import torch

from descant.models.lp_music_caps.decoder_cache_lp_music_caps import DecoderCache, StaticCache


def history(cache: DecoderCache, slot: int, beam: int) -> list[float]:
    """The values a beam can see, by their first number."""
    columns = (cache.mask[slot, beam, : cache.columns] == 0).nonzero()[:, 0]
    return cache.values[0, slot, 0, columns, 0].tolist()


def write(cache: DecoderCache, active: int, numbers: torch.Tensor) -> None:
    """Take one step that stores `numbers` (active, beams) as keys and values."""
    new = cache.add_nodes(active)
    cache.values[:, :active, :, new] = numbers[None, :, None, :, None].float()
    cache.keys[:, :active, :, :, new] = numbers[None, :, None, None, :].float()


@pytest.mark.parametrize("compact_after", [None, 1, 3])
def test_a_beam_sees_its_own_history_through_changes_of_beams(compact_after: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    cache = DecoderCache(layers=2, slots=3, beams=4, heads=2, head_dim=3, dtype=torch.float32)
    histories = [[[] for _ in range(4)] for _ in range(3)]
    for slot in range(3):
        cache.open(slot, length=5)
    for step in range(40):
        numbers = torch.arange(12).view(3, 4) + 100 * step
        write(cache, 3, numbers)
        for slot in range(3):
            for beam in range(4):
                histories[slot][beam] = [*histories[slot][beam], float(numbers[slot, beam])]
        parents = torch.randint(4, (3, 4), generator=generator)
        cache.reorder(parents)
        histories = [[histories[slot][parent] for parent in parents[slot].tolist()] for slot in range(3)]
        if compact_after is not None and step % compact_after == 0:
            cache.compact(3)
        assert all(sorted(history(cache, s, b)) == histories[s][b] for s in range(3) for b in range(4))
    assert torch.equal(cache.keys[0, :, 0, 0, : cache.columns], cache.values[0, :, 0, : cache.columns, 0])


def test_compaction_keeps_shared_history_once() -> None:
    cache = DecoderCache(layers=1, slots=1, beams=5, heads=1, head_dim=2, dtype=torch.float32)
    cache.open(0, length=1)
    for step in range(100):
        write(cache, 1, torch.full((1, 5), step))
        cache.reorder(torch.zeros(1, 5, dtype=torch.long))
    cache.compact(1)
    assert cache.columns == 100


def test_a_slot_that_is_opened_again_has_no_history() -> None:
    cache = DecoderCache(layers=1, slots=2, beams=2, heads=1, head_dim=2, dtype=torch.float32)
    for slot in range(2):
        cache.open(slot, length=4)
    write(cache, 2, torch.tensor([[1, 2], [3, 4]]))
    cache.open(0, length=2)
    write(cache, 2, torch.tensor([[5, 6], [7, 8]]))
    assert (history(cache, 0, 0), history(cache, 1, 1)) == ([5.0], [4.0, 8.0])
    assert cache.cross_mask[0, 0].tolist() == [0, 0, float("-inf"), float("-inf")]


def test_a_moved_question_keeps_its_history() -> None:
    cache = DecoderCache(layers=1, slots=2, beams=2, heads=1, head_dim=2, dtype=torch.float32)
    for slot in range(2):
        cache.open(slot, length=4)
    write(cache, 2, torch.tensor([[1, 2], [3, 4]]))
    cache.cross_values[0, 1] = 7
    cache.move(1, 0)
    write(cache, 1, torch.tensor([[5, 6]]))
    assert (history(cache, 0, 0), history(cache, 0, 1)) == ([3.0, 5.0], [4.0, 6.0])
    assert (cache.cross_values[0, 0] == 7).all()


def new_cache() -> StaticCache:
    sizes = {"layers": 2, "slots": 3, "beams": 4, "heads": 2, "head_dim": 3, "length": 50}
    return StaticCache(**sizes, dtype=torch.float32, device=torch.device("cpu"))


def static_history(cache: StaticCache, slot: int, beam: int) -> list[float]:
    """The values a beam can see, by their first number."""
    columns = (cache.mask[slot, beam] == 0).nonzero()[:, 0]
    return cache.values[0, slot, 0, columns, 0].tolist()


def write_static(cache: StaticCache, positions: torch.Tensor, numbers: torch.Tensor) -> None:
    """Take one step that stores `numbers` (active, beams) as keys and values at positions (active,)."""
    cache.begin(positions[:, None].expand_as(numbers))
    stored = numbers[:, :, None, None].expand(-1, -1, 2, 3).float()
    for layer in range(2):
        keys, values = cache.extend(layer, stored, stored)
        assert torch.equal(keys[:, 0, 0], values[:, 0, :, 0])


def test_a_static_beam_sees_its_own_history_through_changes_of_beams() -> None:
    generator = torch.Generator().manual_seed(0)
    cache = new_cache()
    histories = [[[] for _ in range(4)] for _ in range(3)]
    positions = torch.zeros(3, dtype=torch.long)
    for slot in range(3):
        cache.open(slot, length=5)
    for step in range(40):
        if step == 25:  # another question takes the place of the second one
            cache.open(1, length=9)
            positions[1], histories[1] = 0, [[] for _ in range(4)]
        numbers = torch.arange(12).view(3, 4) + 100 * step
        write_static(cache, positions, numbers)
        parents = torch.randint(4, (3, 4), generator=generator)
        cache.reorder(parents)
        added = [[[*histories[s][b], float(numbers[s, b])] for b in range(4)] for s in range(3)]
        histories = [[added[slot][parent] for parent in parents[slot].tolist()] for slot in range(3)]
        assert all(static_history(cache, s, b) == histories[s][b] for s in range(3) for b in range(4))
        positions += 1


def test_a_longer_question_widens_the_memory_of_what_was_heard() -> None:
    cache = new_cache()
    cache.open(0, length=10)
    cache.cross_values[0, 0, :, :10] = 7
    cache.open(2, length=100)
    assert cache.cross_mask.shape[2] == cache.cross_keys.shape[4] == cache.cross_values.shape[3] == 128
    assert (cache.cross_values[0, 0, :, :10] == 7).all()
    assert [int((cache.cross_mask[slot] == 0).sum()) for slot in range(3)] == [10, 64, 100]


def test_a_moved_question_keeps_its_static_history() -> None:
    cache = new_cache()
    for slot in range(2):
        cache.open(slot, length=4)
    write_static(cache, torch.tensor([0, 0]), torch.arange(8).view(2, 4))
    cache.move(1, 0)
    assert [static_history(cache, 0, beam) for beam in range(4)] == [[4.0], [5.0], [6.0], [7.0]]
