"""Tests that the beam search gives the tokens of transformers' own, setting by setting."""

import pytest
import torch
from answering_model import AnsweringModel

from descant.models.lp_music_caps.beam_search_lp_music_caps import best_tokens

PLAIN = {"no_repeat_ngram_size": 0, "early_stopping": False, "forced_bos_token_id": None}


def test_answers_to_500_questions_are_those_of_transformers(taught: AnsweringModel) -> None:
    batch = taught.ask(504, seed=1000)
    fast = taught.model.generate(**batch)
    expected = taught.model.generate(**batch, fast=False)
    assert fast.shape == expected.shape
    differing = (fast != expected).any(dim=1).nonzero()[:, 0].tolist()
    # Rounding may decide between candidates within 1e-5 of each other: one question in 500 at the most.
    assert len(differing) <= 0.002 * 504, differing
    assert len({int(row.ne(1).sum()) for row in fast}) >= 4  # answers of many lengths


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 2},
        {"num_beams": 10},
        PLAIN,
        {"num_beams": 4, "early_stopping": "never", "length_penalty": 2.0, "max_length": 40},
        {"length_penalty": 0.0},
        {"length_penalty": -1.0, "early_stopping": False},
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 0.8, "no_repeat_ngram_size": 2, "num_beams": 3},
        {"min_length": 20, "max_length": 25},
        {"min_new_tokens": 12, "max_new_tokens": 14},
        {"max_length": 9},
        {"max_length": 4},
        {"max_length": 12, "forced_eos_token_id": None},
        {"no_repeat_ngram_size": 1, "max_length": 30},
        {"eos_token_id": [2, 70, 71, 72]},
        {"forced_bos_token_id": 70, "min_length": 0},
    ],
    ids=str,
)
def test_every_setting_gives_the_tokens_of_transformers(taught: AnsweringModel, settings: dict) -> None:
    batch = taught.ask(40, seed=2000)
    fast = taught.model.generate(**batch, **settings)
    assert torch.equal(fast, taught.model.generate(**batch, **settings, fast=False))


def test_best_tokens_are_those_of_topk() -> None:
    scores = torch.randn(7, 64 * 30, generator=torch.Generator().manual_seed(0))
    scores[:, -50:] = float("-inf")
    scores[2, 5] = scores[2, 6] = 9.0
    values, tokens = best_tokens(scores, 10)
    assert torch.equal(values, scores.topk(10).values)
    assert torch.equal(scores.gather(1, tokens), values)
    assert all(len(set(row)) == 10 for row in tokens.tolist())


def test_best_tokens_of_a_vocabulary_of_few_blocks() -> None:
    scores = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    values, tokens = best_tokens(scores, 10)
    assert torch.equal(values, scores.topk(10).values)
    assert torch.equal(tokens, scores.topk(10).indices)
