"""Tests that memory of fixed shapes keeps each beam's history, whatever its place in the answer."""

import torch

from descant.models.lp_music_caps.static_cache_lp_music_caps import StaticCache


def new_cache() -> StaticCache:
    sizes = {"layers": 2, "slots": 3, "beams": 4, "heads": 2, "head_dim": 3, "places": 50}
    return StaticCache(**sizes, dtype=torch.float32, device=torch.device("cpu"))


def history(cache: StaticCache, slot: int, beam: int) -> list[float]:
    """The values a beam can see, by their first number."""
    columns = (cache.mask[slot, beam] == 0).nonzero()[:, 0]
    return cache.values[0, slot, 0, columns, 0].tolist()


def write(cache: StaticCache, places: torch.Tensor, numbers: torch.Tensor) -> None:
    """Take one step that stores `numbers` (active, beams) as keys and values at places (active,)."""
    cache.begin(places[:, None].expand_as(numbers))
    stored = numbers[:, :, None, None].expand(-1, -1, 2, 3).float()
    for layer in range(2):
        keys, values = cache.extend(layer, stored, stored)
        assert torch.equal(keys[:, 0, 0], values[:, 0, :, 0])


def test_a_beam_sees_its_own_history_through_changes_of_beams() -> None:
    generator = torch.Generator().manual_seed(0)
    cache = new_cache()
    histories = [[[] for _ in range(4)] for _ in range(3)]
    places = torch.zeros(3, dtype=torch.long)
    for slot in range(3):
        cache.open(slot, length=5)
    for step in range(40):
        if step == 25:  # another question takes the place of the second one
            cache.open(1, length=9)
            places[1], histories[1] = 0, [[] for _ in range(4)]
        numbers = torch.arange(12).view(3, 4) + 100 * step
        write(cache, places, numbers)
        parents = torch.randint(4, (3, 4), generator=generator)
        cache.reorder(parents)
        added = [[[*histories[s][b], float(numbers[s, b])] for b in range(4)] for s in range(3)]
        histories = [[added[slot][parent] for parent in parents[slot].tolist()] for slot in range(3)]
        assert all(history(cache, s, b) == histories[s][b] for s in range(3) for b in range(4))
        places += 1


def test_a_longer_question_widens_the_memory_of_what_was_heard() -> None:
    cache = new_cache()
    cache.open(0, length=10)
    cache.cross_values[0, 0, :, :10] = 7
    cache.open(2, length=100)
    assert cache.cross_mask.shape[2] == cache.cross_keys.shape[4] == cache.cross_values.shape[3] == 128
    assert (cache.cross_values[0, 0, :, :10] == 7).all()
    assert [int((cache.cross_mask[slot] == 0).sum()) for slot in range(3)] == [10, 64, 100]


def test_a_moved_question_keeps_its_history() -> None:
    cache = new_cache()
    for slot in range(2):
        cache.open(slot, length=4)
    write(cache, torch.tensor([0, 0]), torch.arange(8).view(2, 4))
    cache.move(1, 0)
    assert [history(cache, 0, beam) for beam in range(4)] == [[4.0], [5.0], [6.0], [7.0]]
