"""Tests that processors take the arguments of transformers' processors, in all forms, and refuse others by name."""

from typing import Any

import numpy as np
import pytest
import torch
from tiny import build_tiny_model
from tiny_mert_lm import join_tiny, save_parts
from tiny_subgenre import build_tiny_subgenre, tracks
from transformers.processing_utils import ProcessorMixin

from descant.models.mert_lm import MertLMProcessor, processing_mert_lm
from descant.models.musicnn import MusicnnFeatureExtractor

QUESTIONS = ["Fast?", "Which instruments play a slow piano and jazz in this song?"]


@pytest.fixture(scope="module", params=["lp_music_caps", "mert_lm", "musicnn"])
def processor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ProcessorMixin:
    if request.param == "lp_music_caps":
        return build_tiny_model()[1]
    joined = join_tiny(save_parts(tmp_path_factory.mktemp("parts")))[1]
    if request.param == "mert_lm":
        return joined
    return MertLMProcessor(MusicnnFeatureExtractor(window_s=1.0), joined.tokenizer, joined.audio_positions)


def call(processor: ProcessorMixin, seconds: float = 0.8, **arguments: Any) -> dict[str, torch.Tensor]:
    rate = processor.feature_extractor.sampling_rate
    audio = [np.sin(np.arange(round(rate * seconds)) / step).astype(np.float32) for step in (9.0, 5.0)]
    return dict(processor(**{"audio": audio, "text": QUESTIONS, "sampling_rate": rate, **arguments}))


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    pairs = ((torch.as_tensor(np.array(first[name])), torch.as_tensor(np.array(second[name]))) for name in first)
    return first.keys() == second.keys() and all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize(
    "arguments",
    [
        {"padding": True},
        {"padding": "longest", "truncation": False},
        {"text_kwargs": {"padding": True}, "audio_kwargs": {"padding": True, "truncation": False}},
        {"common_kwargs": {"return_tensors": "pt"}, "return_tensors": None},
        {"text_kwargs": {"return_tensors": "pt"}, "return_tensors": None},
        {"audio_kwargs": {"max_length": None, "device": "cpu"}},
        {"padding": True, "max_length": 500, "truncation": True},
        {"device": "cpu"},
    ],
)
def test_the_usual_arguments_give_what_the_call_without_them_gives(processor: ProcessorMixin, arguments: dict) -> None:
    expected = call(processor, return_tensors="pt")
    actual = call(processor, **{"return_tensors": "pt", **arguments})
    assert same(actual, expected)
    assert all(isinstance(value, torch.Tensor) for value in actual.values())


def test_prompts_are_padded_to_a_length(processor: ProcessorMixin) -> None:
    longest = call(processor, return_tensors="pt")["prompt_input_ids"].shape[1]
    to_99 = {"padding": "max_length", "max_length": 99}
    for arguments in (to_99, {"text_kwargs": to_99}):
        assert call(processor, **arguments, return_tensors="pt")["prompt_input_ids"].shape[1] == 99
    padded = call(processor, pad_to_multiple_of=64, return_tensors="pt")
    assert padded["prompt_input_ids"].shape[1] == padded["prompt_attention_mask"].shape[1] == longest + -longest % 64
    for row, question in enumerate(QUESTIONS):
        visible = padded["prompt_attention_mask"][row].bool()
        assert padded["prompt_input_ids"][row][visible].tolist() == processor.prompt_ids(question)


@pytest.mark.parametrize("padding", [False, "do_not_pad"])
def test_prompts_may_stay_of_different_lengths(processor: ProcessorMixin, padding: bool | str) -> None:
    inputs = call(processor, padding=padding)
    assert inputs["prompt_input_ids"] == [processor.prompt_ids(question) for question in QUESTIONS]
    assert inputs["prompt_attention_mask"] == [[1] * len(row) for row in inputs["prompt_input_ids"]]


@pytest.mark.parametrize("by_itself", [True, False])
def test_questions_are_cut_and_prompts_stay_whole(processor: ProcessorMixin, by_itself: bool) -> None:
    short, long = (len(processor.prompt_ids(question)) for question in QUESTIONS)
    limits = {"truncation": True, "max_length": short + 2}
    inputs = call(processor, **(limits if by_itself else {"text_kwargs": limits}))
    first, second = inputs["prompt_input_ids"]
    kept = [token for token, visible in zip(second, inputs["prompt_attention_mask"][1], strict=True) if visible]
    whole = processor.prompt_ids(QUESTIONS[1])
    assert short < len(kept) <= short + 2 < long
    shared = next(place for place, pair in enumerate(zip(kept, whole, strict=False)) if pair[0] != pair[1])
    assert kept[shared:] == whole[-(len(kept) - shared) :] and len(kept) - shared < 9  # the end is that of a prompt
    placeholder = getattr(processor, "audio_positions", 0)
    if placeholder:
        audio = processor.tokenizer.convert_tokens_to_ids(processing_mert_lm.AUDIO_TOKEN)
        assert kept.count(audio) == placeholder
        with pytest.raises(ValueError, match="leaves no room for a question"):
            call(processor, truncation=True, max_length=10)


def test_long_audio_is_cut_where_that_is_asked_for(processor: ProcessorMixin) -> None:
    window = processor.feature_extractor.window_s
    with pytest.raises(ValueError, match="more than one window"):
        call(processor, seconds=1.5 * window)
    cut = call(processor, seconds=1.5 * window, audio_kwargs={"truncation": True})
    assert np.array_equal(cut["input_features"], call(processor, seconds=window)["input_features"])


@pytest.mark.parametrize("arguments", [{"padding": False}, {"max_length": 7}])
def test_a_clip_of_another_length_than_a_window_is_refused(processor: ProcessorMixin, arguments: dict) -> None:
    with pytest.raises(ValueError, match="leave padding and max_length out"):
        call(processor, audio_kwargs=arguments)


def test_what_is_given_twice_or_unknown_is_refused_by_name(processor: ProcessorMixin) -> None:
    with pytest.raises(ValueError, match="padding was given twice"):
        call(processor, padding=True, text_kwargs={"padding": True})
    with pytest.raises(ValueError, match="sampling_rate was given twice"):
        call(processor, audio_kwargs={"sampling_rate": 16_000})
    with pytest.raises(ValueError, match="padding is 'shortest'"):
        call(processor, padding="shortest")
    with pytest.raises(ValueError, match="needs max_length"):
        call(processor, padding="max_length")
    for arguments in ({"paddings": True}, {"text_kwargs": {"paddings": True}}, {"audio_kwargs": {"paddings": True}}):
        with pytest.raises(TypeError, match="paddings"):
            call(processor, **arguments)


def test_a_subgenre_processor_pads_always_and_cuts_never() -> None:
    _, processor = build_tiny_subgenre()
    expected = dict(processor(**tracks(), return_tensors="pt"))
    assert same(dict(processor(**tracks(), return_tensors="pt", padding=True, truncation=False)), expected)
    for arguments in ({"padding": "max_length"}, {"truncation": True}):
        with pytest.raises(ValueError, match="leave padding and truncation out"):
            processor(**tracks(), **arguments)
