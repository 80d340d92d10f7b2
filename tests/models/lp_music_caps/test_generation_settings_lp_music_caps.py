"""Tests of what the fast search covers: everything else falls back, with a line that says why."""

import logging

import pytest
import torch
from answering_model import AnsweringModel
from transformers import DynamicCache, EncoderDecoderCache, GenerationConfig
from transformers.generation import (
    EosTokenCriteria,
    LogitsProcessor,
    LogitsProcessorList,
    MaxLengthCriteria,
    MinLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteriaList,
    TopKLogitsWarper,
)

from descant.models.lp_music_caps import generation_lp_music_caps
from descant.models.lp_music_caps.generation_settings_lp_music_caps import NotCovered, read_settings


class Nothing(LogitsProcessor):
    """A processor of the user's own."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores


def test_arguments_go_before_the_config_given_and_that_before_the_models_own(taught: AnsweringModel) -> None:
    given = GenerationConfig(num_beams=3, max_length=50)
    settings = read_settings(taught.model, given, {"max_length": 20})
    assert (settings.num_beams, settings.max_length, settings.no_repeat_ngram_size) == (3, 20, 3)
    assert (settings.forced_bos_token_id, settings.forced_eos_token_id, settings.eos_token_ids) == (0, [2], [2])


def test_what_a_trainer_passes_is_covered(taught: AnsweringModel) -> None:
    assert read_settings(taught.model, None, {"synced_gpus": False, "max_length": 9}).max_length == 9


def test_new_tokens_are_counted_from_the_start_token(taught: AnsweringModel) -> None:
    settings = read_settings(taught.model, None, {"max_new_tokens": 7, "min_new_tokens": 4})
    assert (settings.max_length, settings.min_length) == (8, 5)


NOT_COVERED = [
    ({"num_beams": 1, "do_sample": True, "typical_p": 0.5}, "TypicalLogitsWarper"),
    ({"num_beams": 3, "do_sample": True}, "BEAM_SAMPLE"),
    ({"num_return_sequences": 2}, "num_return_sequences"),
    ({"return_dict_in_generate": True, "output_scores": True}, "return_dict_in_generate"),
    ({"use_cache": False}, "use_cache=False"),
    ({"logits_processor": LogitsProcessorList([Nothing()])}, "logits_processor"),
    ({"stopping_criteria": StoppingCriteriaList([MaxLengthCriteria(9)])}, "stopping_criteria"),
    ({"max_time": 100.0}, "MaxTimeCriteria"),
    ({"stop_strings": ["."], "tokenizer": "any"}, "tokenizer"),
    ({"decoder_start_token_id": [2, 0]}, "decoder_start_token_id"),
    ({"pad_token_id": 0, "num_beams": 2}, "pad_token_id 0"),
    ({"suppress_tokens": [70]}, "SuppressTokens"),
    ({"renormalize_logits": True}, "LogitNormalization"),
    ({"decoder_input_ids": torch.tensor([[2, 0, 70]])}, "decoder_input_ids"),
    ({"decoder_input_ids": torch.tensor([[2], [0]])}, "decoder_input_ids"),
    ({"max_length": 3}, "max_length below 4"),
    ({"past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache())}, "past_key_values"),
]


def name_case(value: object) -> str:
    """The same in every process: the text of an object holds its address."""
    if isinstance(value, dict):
        return ",".join(value)
    return value if isinstance(value, str) else type(value).__name__


@pytest.mark.parametrize(("arguments", "reason"), NOT_COVERED, ids=name_case)
def test_what_is_not_covered_is_named(taught: AnsweringModel, arguments: dict, reason: str) -> None:
    with pytest.raises(NotCovered, match=reason):
        read_settings(taught.model, None, arguments)


def test_falling_back_gives_transformers_answer_and_a_line_in_the_log(
    taught: AnsweringModel, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("descant"), "propagate", True)
    generation_lp_music_caps.logger.warning_once.cache_clear()  # another test may have had the line
    batch = taught.ask(3, seed=5000)
    fast = taught.model.generate(**batch, num_return_sequences=2, max_length=10)
    assert torch.equal(fast, taught.model.generate(**batch, num_return_sequences=2, max_length=10, fast=False))
    assert [record.getMessage() for record in caplog.records] == [
        "num_return_sequences is not covered by the fast search: transformers' own loop runs"
    ]


@pytest.mark.parametrize(
    "objects",
    [
        {"logits_processor": [RepetitionPenaltyLogitsProcessor(0.001)]},
        {"logits_processor": [NoRepeatNGramLogitsProcessor(1)]},
        {"logits_processor": [MinLengthLogitsProcessor(11, 2)]},
        {"logits_processor": [TopKLogitsWarper(1)]},
        {"stopping_criteria": [MaxLengthCriteria(5)]},
        {"stopping_criteria": [EosTokenCriteria(torch.tensor(70))]},
        {"decoder_input_ids": torch.tensor([[2], [0], [70]] * 8)},
    ],
    ids=lambda objects: "-".join(type(value[0]).__name__ for value in objects.values()),
)
def test_objects_of_known_kinds_are_obeyed(taught: AnsweringModel, objects: dict) -> None:
    kinds = {"logits_processor": LogitsProcessorList, "stopping_criteria": StoppingCriteriaList}
    settings = {name: kinds.get(name, torch.clone)(value) for name, value in objects.items()} | {"max_length": 12}
    asked = taught.ask(24, seed=5000)
    told = taught.model.generate(**asked, **settings)
    assert torch.equal(told, taught.model.generate(**asked, **settings, fast=False))
    assert not torch.equal(told, taught.model.generate(**asked, max_length=12))  # or the object asks for nothing


def test_empty_lists_of_objects_ask_for_nothing(taught: AnsweringModel) -> None:
    empty = {"logits_processor": LogitsProcessorList(), "stopping_criteria": StoppingCriteriaList()}
    assert read_settings(taught.model, None, {**empty, "max_length": 9}).max_length == 9


def test_a_misspelled_argument_is_refused(taught: AnsweringModel) -> None:
    with pytest.raises(ValueError, match="num_beam"):
        read_settings(taught.model, None, {"num_beam": 3})
