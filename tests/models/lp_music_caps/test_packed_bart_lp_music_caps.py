"""Tests that packed steps compute what the model's own decoder computes, also where beams share and change history."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from answering_model import AnsweringModel
from torch import nn
from torch.nn.functional import gelu

from descant.models.lp_music_caps.decoder_cache_lp_music_caps import DecoderCache, StaticCache
from descant.models.lp_music_caps.generation_lp_music_caps import strip_padding
from descant.models.lp_music_caps.packed_bart_lp_music_caps import (
    FastDecoder,
    FastEncoder,
    FixedRowsLinear,
    PackedLinear,
    StackedLinear,
    has_bfloat16,
    pack,
)


def test_steps_give_the_logits_of_the_whole_sequence(taught: AnsweringModel) -> None:
    model, batch = taught.model, taught.ask(3, seed=6000)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 300, (3, 2, 20), generator=generator)  # two hypotheses a question
    outputs, mask = model.encode(**batch)
    decoder = FastDecoder(model)
    cache = decoder.new_cache(slots=3, beams=2)
    for slot, states in enumerate(outputs.last_hidden_state):
        decoder.open_slot(cache, slot, states[: mask[slot].sum()])
    steps = []
    for place in range(20):
        cache.add_nodes(3)
        hidden = decoder.step(cache, tokens[:, :, place], torch.full((3, 2), place))
        steps.append(decoder.head(hidden)[:, :300].view(3, 2, 300))
    repeated = {name: batch[name].repeat_interleave(2, 0) for name in batch if name != "audio_embeds"}
    expected = model(**repeated, audio_embeds=batch["audio_embeds"], decoder_input_ids=tokens.flatten(0, 1)).logits
    torch.testing.assert_close(torch.stack(steps, dim=2).flatten(0, 1), expected, atol=1e-4, rtol=1e-4)


def test_the_head_is_padded_with_impossible_tokens(taught: AnsweringModel) -> None:
    logits = FastDecoder(taught.model).head(torch.randn(2, 32))
    assert logits.shape == (2, 320)
    assert (logits[:, 300:] == float("-inf")).all()


@pytest.mark.parametrize("questions", [1, 5])
def test_states_are_those_of_the_models_own_encoder(taught: AnsweringModel, questions: int) -> None:
    batch = taught.ask(questions, seed=8000)
    expected, mask = taught.model.encode(**batch)
    actual, same_mask = taught.model.encode(**batch, encoder=FastEncoder(taught.model))
    assert torch.equal(mask, same_mask)
    heard = mask.bool()
    torch.testing.assert_close(actual[0][heard], expected[0][heard], atol=1e-5, rtol=1e-5)


def test_lower_tiers_encode_in_bfloat16_where_the_processor_has_it(taught: AnsweringModel) -> None:
    batch = taught.ask(3, seed=8001)
    exact, mask = taught.model.encode(**batch)
    rough, _ = taught.model.encode(**batch, encoder=FastEncoder(taught.model, tier="int8"))
    error = (rough[0] - exact[0])[mask.bool()].abs()
    assert rough[0].dtype == torch.float32
    assert error.max() < 0.2
    assert (error.max() > 1e-4) == has_bfloat16()


@pytest.mark.parametrize("kind", [PackedLinear, partial(FixedRowsLinear, rows=5), StackedLinear], ids=str)
def test_packed_layers_give_the_results_of_each(kind: Callable) -> None:
    torch.manual_seed(0)
    first, second, rows = nn.Linear(24, 40), nn.Linear(24, 7), torch.randn(5, 24)
    both = kind([first.weight, second.weight], [first.bias, second.bias])
    torch.testing.assert_close(both(rows), torch.cat([first(rows), second(rows)], dim=1))
    packed, residual = kind([first.weight], [first.bias]), torch.randn(5, 40)
    torch.testing.assert_close(packed(rows, "gelu"), gelu(first(rows)))
    torch.testing.assert_close(packed.add_to(residual, rows), residual + first(rows))


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    torch.manual_seed(0)
    layer, rows = nn.Linear(64, 128), torch.randn(33, 64)
    packed = PackedLinear([layer.weight], [layer.bias])
    together = packed(rows)
    assert all(torch.equal(packed(rows[:count]), together[:count]) for count in (1, 5, 32))


BF16 = pytest.param("bf16", marks=pytest.mark.skipif(not has_bfloat16(), reason="needs bfloat16 instructions"))


@pytest.mark.parametrize("tier", ["fp32", BF16, "int8"])
def test_a_tier_computes_the_layers_to_its_precision(tier: str) -> None:
    steps = 127 if torch.cpu._is_vnni_supported() else 63  # of the largest number in a row of int8
    tolerance = {"fp32": 1e-6, "bf16": 0.02, "int8": 2.5 / steps}[tier]
    torch.manual_seed(0)
    first, second, rows = nn.Linear(64, 96), nn.Linear(64, 32), torch.randn(20, 64)
    expected = torch.cat([first(rows), second(rows)], dim=1)
    torch.testing.assert_close(pack(tier, first, second)(rows), expected, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(pack(tier, first)(rows, "gelu"), gelu(first(rows)), atol=tolerance, rtol=tolerance)
    residual = torch.randn(20, 32)
    actual = pack(tier, second).add_to(residual, rows)
    torch.testing.assert_close(actual, residual + second(rows), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("tier", ["fp32", BF16, "int8"])
def test_a_row_of_a_tier_does_not_depend_on_the_rows_beside_it(tier: str) -> None:
    torch.manual_seed(0)
    layer, rows = pack(tier, nn.Linear(64, 96)), torch.randn(20, 64)
    assert torch.equal(layer(rows * torch.arange(1, 21)[:, None])[:1], layer(rows[:1]))


@pytest.mark.parametrize("tier", [BF16, "int8"])
def test_most_answers_of_a_tier_are_those_of_fp32(taught: AnsweringModel, tier: str) -> None:
    batch = taught.ask(100, seed=11000)
    exact = taught.model.generate(**batch).tolist()
    near = taught.model.generate(**batch, tier=tier).tolist()
    pairs = zip(exact, near, strict=True)
    assert sum(strip_padding(a, 1) == strip_padding(b, 1) for a, b in pairs) >= 60


def test_answers_keep_to_a_trimmed_vocabulary(taught: AnsweringModel) -> None:
    batch = taught.ask(60, seed=12000)
    exact = taught.model.generate(**batch, num_beams=1)
    used = set(exact.flatten().tolist())
    assert torch.equal(taught.model.generate(**batch, num_beams=1, vocabulary=sorted(used)), exact)
    fewer = sorted(used)[: len(used) // 2]
    assert set(taught.model.generate(**batch, vocabulary=fewer).flatten().tolist()) <= {0, 1, 2, *fewer}


def test_a_stream_takes_a_tier_and_a_vocabulary(taught: AnsweringModel) -> None:
    features = torch.randn(128, 1001, generator=torch.Generator().manual_seed(0))
    pairs = [("clip", features, [0, *range(20, 22 + length), 2]) for length in range(6)]
    used = list(range(60, 200))
    answers = list(taught.model.answer_many(pairs, tier="int8", vocabulary=used))
    assert sorted(position for position, _, _ in answers) == list(range(6))
    assert all({0, 1, 2, *used}.issuperset(tokens) for _, tokens, _ in answers)


def test_an_unknown_tier_is_refused_with_the_known_ones_named(taught: AnsweringModel) -> None:
    with pytest.raises(ValueError, match="'fp8'.*fp32, bf16, int8"):
        taught.model.generate(**taught.ask(1, seed=0), tier="fp8")


@pytest.mark.skipif(has_bfloat16(), reason="this processor has bfloat16 instructions")
def test_bfloat16_is_refused_where_the_processor_lacks_it(taught: AnsweringModel) -> None:
    with pytest.raises(ValueError, match="AVX-512"):
        taught.model.generate(**taught.ask(1, seed=0), tier="bf16")


def test_a_tier_that_cannot_be_had_is_refused(taught: AnsweringModel) -> None:
    with pytest.raises(ValueError, match="num_return_sequences"):
        taught.model.generate(**taught.ask(1, seed=0), tier="int8", num_return_sequences=2)
    with pytest.raises(ValueError, match="fast=False"):
        list(taught.model.answer_many([], vocabulary=[5], fast=False))


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
