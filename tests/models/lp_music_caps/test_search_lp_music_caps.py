"""Tests that the beam search gives the tokens of transformers' own, setting by setting."""

import pytest
import torch
from answering_model import AnsweringModel
from transformers.generation import (
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    LogitsProcessorList,
    MinLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from descant.models.lp_music_caps.search_lp_music_caps import AnswerSettings, apply_rules, best_tokens

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


NO_RULE = {
    "num_beams": 1,
    "max_length": 14,
    "min_length": 0,
    "length_penalty": 1.0,
    "early_stopping": False,
    "no_repeat_ngram_size": 0,
    "repetition_penalty": 1.0,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "decoder_start_token_id": 2,
    "eos_token_ids": [2],
    "pad_token_id": 1,
    "do_sample": False,
}


def name_case(value: object) -> str:
    """The same in every process: the text of an object holds its address."""
    if isinstance(value, dict):
        return ",".join(value)
    return value if isinstance(value, str) else type(value).__name__


@pytest.mark.parametrize(
    ("rule", "processor"),
    [
        ({"no_repeat_ngram_size": 1}, NoRepeatNGramLogitsProcessor(1)),
        ({"no_repeat_ngram_size": 2}, NoRepeatNGramLogitsProcessor(2)),
        ({"no_repeat_ngram_size": 3}, NoRepeatNGramLogitsProcessor(3)),
        ({"no_repeat_ngram_size": 20}, NoRepeatNGramLogitsProcessor(20)),
        ({"repetition_penalty": 1.4}, RepetitionPenaltyLogitsProcessor(1.4)),
        ({"min_length": 6, "eos_token_ids": [2, 4]}, MinLengthLogitsProcessor(6, torch.tensor([2, 4]))),
        ({"forced_bos_token_id": 3}, ForcedBOSTokenLogitsProcessor(3)),
        ({"forced_eos_token_id": [2, 4]}, ForcedEOSTokenLogitsProcessor(14, [2, 4])),
    ],
    ids=name_case,
)
def test_a_rule_is_the_processor_of_transformers(rule: dict, processor) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.arange(1, 14)
    sequences = torch.randint(2, 5, (13, 14), generator=generator)  # few tokens, so that n-grams come again
    scores = torch.randn(13, 9, generator=generator)
    rows = [
        LogitsProcessorList([processor])(sequences[[row], :length], scores[[row]].clone())
        for row, length in enumerate(lengths.tolist())
    ]
    actual = apply_rules(AnswerSettings(**(NO_RULE | rule)), scores.clone(), sequences, lengths)
    torch.testing.assert_close(actual, torch.cat(rows))
    assert not torch.equal(actual, scores) or rule == {"no_repeat_ngram_size": 20}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"no_repeat_ngram_size": 0, "forced_bos_token_id": None},
        {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
        {"min_length": 15, "max_length": 20},
        {"max_length": 5, "forced_eos_token_id": None},
    ],
    ids=str,
)
def test_greedy_answers_are_those_of_transformers(taught: AnsweringModel, settings: dict) -> None:
    batch = taught.ask(200, seed=3000)
    fast = taught.model.generate(**batch, num_beams=1, **settings)
    assert torch.equal(fast, taught.model.generate(**batch, num_beams=1, **settings, fast=False))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"top_p": 0.9, "top_k": 0},
        {"temperature": 1.7, "top_k": 20},
        {"temperature": 3.0, "repetition_penalty": 1.2, "min_length": 9},
    ],
    ids=str,
)
def test_a_seed_samples_the_same_answers_as_in_transformers(taught: AnsweringModel, settings: dict) -> None:
    batch = taught.ask(30, seed=4000)
    answers = []
    for fast in (True, False):
        torch.manual_seed(7)
        answers.append(taught.model.generate(**batch, num_beams=1, do_sample=True, **settings, fast=fast))
    assert torch.equal(*answers)
    assert not torch.equal(answers[0], taught.model.generate(**batch, num_beams=1, do_sample=True, **settings))
