"""Tests of the tiers that may change tokens: how near they stay, and that none is taken unasked."""

import pytest
import torch
from answering_model import AnsweringModel
from torch import nn
from torch.nn.functional import gelu

from descant.models.lp_music_caps.generation_lp_music_caps import strip_padding
from descant.models.lp_music_caps.precision_tiers_lp_music_caps import has_bfloat16, pack

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
def test_a_row_does_not_depend_on_the_rows_beside_it(tier: str) -> None:
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
