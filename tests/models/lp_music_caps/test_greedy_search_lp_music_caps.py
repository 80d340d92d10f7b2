"""Tests that greedy and sampled answers are those of transformers' own loop."""

import pytest
import torch
from answering_model import AnsweringModel


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
