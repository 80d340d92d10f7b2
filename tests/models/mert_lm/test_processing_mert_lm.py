"""Tests of the front end and the processor: normalised audio, what a question becomes, what an answer is learnt as."""

import numpy as np
import pytest
from tiny_mert_lm import QUESTIONS
from transformers import AutoProcessor, Wav2Vec2FeatureExtractor

from descant.models.mert_lm import MertLMFeatureExtractor
from descant.models.mert_lm.processing_mert_lm import AUDIO_TOKEN

EXTRACTOR = MertLMFeatureExtractor(window_s=1.0)


def test_a_clip_is_normalised_before_it_is_padded(waveforms: list[np.ndarray]) -> None:
    features = EXTRACTOR(waveforms, sampling_rate=24_000)["input_features"]
    own = Wav2Vec2FeatureExtractor(sampling_rate=24_000, do_normalize=True)
    for row, waveform in zip(features, waveforms, strict=True):
        np.testing.assert_allclose(row[: len(waveform)], own(waveform, sampling_rate=24_000)["input_values"][0])
        assert not row[len(waveform) :].any()
    assert features.shape == (3, *EXTRACTOR.feature_shape)


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (np.zeros(100, np.float32), 16_000, "needs 24000 Hz"),
        (np.zeros(30_000, np.float32), 24_000, "more than one window"),
        (np.full(100, np.nan, np.float32), 24_000, "NaN"),
        (np.zeros(100, np.int16), 24_000, "int16"),
        (np.zeros(0, np.float32), 24_000, "shape"),
    ],
)
def test_bad_audio_is_refused_with_the_reason(audio: np.ndarray, rate: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EXTRACTOR([audio], sampling_rate=rate)
    with pytest.raises(ValueError, match=message):
        EXTRACTOR(audio, sampling_rate=rate)


def test_of_no_audio_there_are_no_features() -> None:
    assert EXTRACTOR([], sampling_rate=24_000)["input_features"].shape == (0, *EXTRACTOR.feature_shape)


def test_a_prompt_is_the_chat_with_the_audio_before_the_question(joined) -> None:
    model, processor = joined
    text = processor.tokenizer.decode([*processor.prompt_ids("Fast?"), model.config.decoder_start_token_id])
    audio = AUDIO_TOKEN * model.config.audio_positions
    assert text == (
        "<|im_start|>system\nYou listen to music and answer questions about it.<|im_end|>\n"
        f"<|im_start|>user\n{audio}\nFast?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_without_a_question_a_caption_is_asked_for(joined) -> None:
    _, processor = joined
    assert processor.prompt_ids(None) == processor.prompt_ids("Describe this music.")


def test_a_placeholder_in_a_question_is_no_audio(joined) -> None:
    model, processor = joined
    ids = processor.prompt_ids(f"Is {AUDIO_TOKEN} a token?")
    assert ids.count(model.config.audio_token_id) == model.config.audio_positions


def test_prompts_are_padded_at_their_start(joined, waveforms: list[np.ndarray]) -> None:
    _, processor = joined
    inputs = processor(audio=waveforms, text=QUESTIONS, sampling_rate=24_000, return_tensors="pt")
    assert inputs["prompt_attention_mask"][:, -1].all() and not inputs["prompt_attention_mask"][:, 0].all()
    for row, question in enumerate(QUESTIONS):
        kept = inputs["prompt_input_ids"][row][inputs["prompt_attention_mask"][row].bool()]
        assert kept.tolist() == processor.prompt_ids(question)


def test_answers_are_cut_without_losing_the_end_of_the_turn(joined) -> None:
    _, processor = joined
    (whole,), (short,) = processor.answer_ids(["a slow piano and drums"]), processor.answer_ids(["a slow piano"], 3)
    assert processor.tokenizer.decode(whole) == "a slow piano and drums<|im_end|>"
    assert (len(short), short[-1]) == (3, processor.tokenizer.eos_token_id)


def test_numbers_that_differ_are_refused(joined, waveforms: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="3 waveforms and 1 questions"):
        joined[1](audio=waveforms, text="Fast?", sampling_rate=24_000)


def test_it_is_saved_and_loaded_with_its_layout(joined, tmp_path) -> None:
    _, processor = joined
    processor.system_prompt = "Listen."
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert loaded.prompt_ids("Fast?") == processor.prompt_ids("Fast?")
    assert loaded.feature_extractor.feature_shape == processor.feature_extractor.feature_shape
