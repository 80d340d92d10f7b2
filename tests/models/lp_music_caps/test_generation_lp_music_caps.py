"""Tests of answering on a small seeded model: batches, streams of pairs, and what the fast search does not cover."""

import logging
from threading import Thread

import numpy as np
import pytest
import torch
from answering_model import AnsweringModel
from transformers import DynamicCache, EncoderDecoderCache, GenerationConfig, TextIteratorStreamer
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
from transformers.modeling_outputs import BaseModelOutput

from descant.models.lp_music_caps import (
    LPMusicCapsForConditionalGeneration,
    LPMusicCapsProcessor,
    generation_lp_music_caps,
)
from descant.models.lp_music_caps.generation_lp_music_caps import strip_padding
from descant.models.lp_music_caps.search_lp_music_caps import NotCovered, read_settings


@pytest.fixture
def batch(processor: LPMusicCapsProcessor, waveforms: list[np.ndarray], questions: list[str]) -> dict:
    audio = [waveforms[row % 3] for row in range(len(questions))]
    return dict(processor(audio=audio, text=questions, sampling_rate=16000, return_tensors="pt"))


@pytest.fixture
def pairs(batch: dict) -> list:
    """The batch as a stream: (clip key, features, prompt ids)."""
    lengths = batch["prompt_attention_mask"].sum(dim=1).tolist()
    ids = batch["prompt_input_ids"].tolist()
    return [(row % 3, batch["input_features"][row], ids[row][: lengths[row]]) for row in range(len(ids))]


def answer_alone(model: LPMusicCapsForConditionalGeneration, batch: dict, row: int, **settings) -> list[int]:
    length = batch["prompt_attention_mask"][row].sum()
    ids = batch["prompt_input_ids"][[row], :length]
    features = batch["input_features"][[row]]
    tokens = model.generate(input_features=features, prompt_input_ids=ids, **settings)
    return strip_padding(tokens[0].tolist(), 1)


@pytest.mark.parametrize("num_beams", [1, 5])
def test_a_batch_of_questions_gives_each_the_tokens_it_gets_alone(
    model: LPMusicCapsForConditionalGeneration, batch: dict, num_beams: int
) -> None:
    settings = {"num_beams": num_beams, "max_length": 16}
    together = [strip_padding(row, 1) for row in model.generate(**batch, **settings).tolist()]
    assert len(together) >= 20
    assert together == [answer_alone(model, batch, row, **settings) for row in range(len(together))]


def test_settings_come_from_generation_config_unless_given(
    model: LPMusicCapsForConditionalGeneration, batch: dict
) -> None:
    model.generation_config.max_length = 7
    assert model.generate(**batch).shape == (24, 7)
    assert model.generate(**batch, max_length=5, num_beams=2).shape == (24, 5)


def test_clip_index_is_expanded_with_the_beams(model: LPMusicCapsForConditionalGeneration, batch: dict) -> None:
    shared = {**batch, "input_features": batch["input_features"][:3], "clip_index": torch.arange(24) % 3}
    expected = model.generate(**batch, max_length=10)
    assert torch.equal(model.generate(**shared, max_length=10), expected)
    embeds = model.get_audio_features(shared.pop("input_features"))
    assert torch.equal(model.generate(**shared, audio_embeds=embeds, max_length=10), expected)


def test_a_training_batch_can_be_passed_on(model: LPMusicCapsForConditionalGeneration, batch: dict) -> None:
    labels = torch.zeros(24, 3, dtype=torch.long)
    assert torch.equal(model.generate(**batch, labels=labels, max_length=6), model.generate(**batch, max_length=6))


def test_a_misspelled_setting_is_refused(model: LPMusicCapsForConditionalGeneration, batch: dict) -> None:
    with pytest.raises(ValueError, match="num_beam"):
        model.generate(**batch, num_beam=3)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_stream_gets_the_answers_of_a_batch(
    model: LPMusicCapsForConditionalGeneration, batch: dict, pairs: list, num_beams: int
) -> None:
    settings = {"num_beams": num_beams, "max_length": 12}
    answers = {index: tokens for index, tokens, _ in model.answer_many(iter(pairs), batch_size=5, **settings)}
    expected = [strip_padding(row, 1) for row in model.generate(**batch, **settings).tolist()]
    assert [answers[row] for row in range(24)] == expected


def test_the_score_is_the_length_normalised_log_probability(
    model: LPMusicCapsForConditionalGeneration, batch: dict, pairs: list
) -> None:
    beams = {"num_beams": 3, "max_length": 12}
    result = model.generate(**batch, **beams, return_dict_in_generate=True, output_scores=True)
    for index, _, score in model.answer_many(pairs, **beams):
        assert score == pytest.approx(result.sequences_scores[index].item(), abs=1e-5)
    for index, tokens, score in model.answer_many(pairs, num_beams=1, max_length=12):
        inputs = {name: value[[index]] for name, value in batch.items()}
        with torch.no_grad():
            logits = model(**inputs, decoder_input_ids=torch.tensor([tokens[:-1]])).logits[0]
        chosen = logits.log_softmax(-1).gather(1, torch.tensor(tokens[1:])[:, None])
        assert score == pytest.approx(chosen.mean().item(), abs=1e-5)


def test_a_stream_is_read_no_further_than_it_is_answered(
    model: LPMusicCapsForConditionalGeneration, pairs: list
) -> None:
    read = []
    stream = model.answer_many((read.append(i) or pair for i, pair in enumerate(pairs)), batch_size=4, max_length=6)
    next(stream)
    assert len(read) <= 8


def test_a_stream_may_ask_for_captions_and_may_be_empty(
    model: LPMusicCapsForConditionalGeneration, pairs: list
) -> None:
    key, features, _ = pairs[0]
    captions = list(model.answer_many([(key, features, None), (key, features, None)], max_length=6))
    expected = model.generate(input_features=features[None], max_length=6)[0].tolist()
    assert [tokens for _, tokens, _ in captions] == [expected, expected]
    assert list(model.answer_many([])) == []


def test_a_stream_that_the_fast_search_does_not_cover_is_answered_all_the_same(
    model: LPMusicCapsForConditionalGeneration, pairs: list
) -> None:
    settings = {"num_beams": 2, "max_length": 8}
    fast = sorted(model.answer_many(pairs, **settings))
    for index, tokens, score in model.answer_many(pairs, **settings, suppress_tokens=[]):
        assert tokens == fast[index][1]
        assert score == pytest.approx(fast[index][2], abs=1e-5)


def test_a_stream_can_be_sampled(model: LPMusicCapsForConditionalGeneration, pairs: list) -> None:
    settings = {"num_beams": 1, "do_sample": True, "top_p": 0.9, "max_length": 10, "batch_size": 7}
    streams = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        streams.append(sorted(model.answer_many(pairs, **settings)))
    assert [position for position, _, _ in streams[0]] == list(range(24))
    assert streams[0] == streams[1] != streams[2]


def test_positions_that_the_mask_leaves_out_are_not_heard(
    model: LPMusicCapsForConditionalGeneration, batch: dict
) -> None:
    outputs, mask = model.encode(**{name: value[:3] for name, value in batch.items()})
    expected = model.generate(encoder_outputs=outputs, attention_mask=mask, max_length=9)
    states = torch.nn.functional.pad(outputs.last_hidden_state, (0, 0, 4, 0), value=9.0)
    moved = BaseModelOutput(last_hidden_state=states)
    mask = torch.nn.functional.pad(mask, (4, 0))
    for fast in (True, False):
        assert torch.equal(
            model.generate(encoder_outputs=moved, attention_mask=mask, max_length=9, fast=fast), expected
        )


@pytest.mark.parametrize("settings", [{}, {"do_sample": True}], ids=str)
def test_tokens_stream_as_they_are_chosen(
    model: LPMusicCapsForConditionalGeneration,
    processor: LPMusicCapsProcessor,
    batch: dict,
    settings: dict,
) -> None:
    one = {name: value[:1] for name, value in batch.items()}
    streams = []
    for fast in (True, False):
        torch.manual_seed(0)
        streamer = TextIteratorStreamer(processor.tokenizer, skip_prompt=True, timeout=300)
        arguments = dict(one, num_beams=1, max_length=20, streamer=streamer, fast=fast, **settings)
        thread = Thread(target=model.generate, kwargs=arguments)
        thread.start()
        streams.append(list(streamer))
        thread.join()
    assert streams[0] == streams[1]
    assert len(streams[0]) > 1


def test_streaming_of_beams_is_refused_as_transformers_does(
    model: LPMusicCapsForConditionalGeneration, processor: LPMusicCapsProcessor, batch: dict
) -> None:
    one = {name: value[:1] for name, value in batch.items()}
    with pytest.raises(ValueError, match="streamer"):
        model.generate(**one, num_beams=3, streamer=TextIteratorStreamer(processor.tokenizer))


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
