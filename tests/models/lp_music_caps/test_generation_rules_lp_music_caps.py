"""Tests that the rules do to rows of different lengths what transformers' processors do to each row alone."""

import pytest
import torch
from transformers.generation import (
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    LogitsProcessorList,
    MinLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from descant.models.lp_music_caps.generation_rules_lp_music_caps import apply_rules
from descant.models.lp_music_caps.generation_settings_lp_music_caps import AnswerSettings

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
