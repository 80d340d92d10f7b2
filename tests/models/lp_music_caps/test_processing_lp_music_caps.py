"""Tests of the audio front end against a plain reimplementation, of what it refuses, and of batches with questions."""

import json

import numpy as np
import pytest
import torch

from descant.models.lp_music_caps import LPMusicCapsFeatureExtractor, LPMusicCapsProcessor

EXTRACTOR = LPMusicCapsFeatureExtractor()


def plain_log_mel(waveform: np.ndarray) -> np.ndarray:
    """The front end once more from its description, in double precision and without torch."""
    padded = np.pad(np.pad(waveform.astype(np.float64), (0, 160000 - len(waveform))), 512, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 1024)[::160]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    power = np.fft.rfft(frames * hann, axis=1).real ** 2  # (1001, 513): the imaginary part is dropped on purpose
    mel_edges = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 130)
    hertz = 700 * (10 ** (mel_edges / 2595) - 1)
    bins = np.linspace(0, 8000, 513)[:, None]
    rising = (bins - hertz[:-2]) / (hertz[1:-1] - hertz[:-2])
    falling = (hertz[2:] - bins) / (hertz[2:] - hertz[1:-1])
    return 10 * np.log10(np.maximum(power @ np.clip(np.minimum(rising, falling), 0, None), 1e-10)).T


def test_mel_is_that_of_a_plain_reimplementation(waveforms: list[np.ndarray]) -> None:
    for waveform in waveforms:
        error = np.abs(EXTRACTOR.extract(waveform) - plain_log_mel(waveform))
        assert (error < 1e-3).mean() > 0.99
        assert error.max() < 0.1


def test_mel_of_reference_waveforms_is_that_of_the_reference(reference) -> None:
    error = np.abs(EXTRACTOR.extract(reference.waveforms) - reference.expected["log_mel"].numpy())
    assert (error <= 1e-3).mean() >= 0.9999
    assert error.max() <= 0.1


def test_short_audio_is_padded_with_silence_at_its_end(waveforms: list[np.ndarray]) -> None:
    padded = np.pad(waveforms[1], (0, 160000 - len(waveforms[1])))
    np.testing.assert_array_equal(EXTRACTOR.extract(waveforms[1]), EXTRACTOR.extract(padded))
    assert (EXTRACTOR.extract(waveforms[1])[:, 500:] == -100).all()


def test_mel_of_a_batch_is_that_of_each(waveforms: list[np.ndarray]) -> None:
    batch = torch.from_numpy(np.stack([waveforms[0], waveforms[0][::-1].copy()]))
    both = EXTRACTOR.extract(batch)
    assert both.shape == (2, 128, 1001)
    torch.testing.assert_close(both[1], EXTRACTOR.extract(batch[1]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("convert", [list, tuple, torch.from_numpy, lambda array: array])
def test_one_waveform_of_any_kind_gives_one_row(waveforms: list[np.ndarray], convert) -> None:
    features = EXTRACTOR(convert(waveforms[1][:400]), sampling_rate=16000, return_tensors="pt")["input_features"]
    assert features.shape == (1, 128, 1001)


def test_a_list_of_waveforms_of_different_lengths_gives_a_row_each(waveforms: list[np.ndarray]) -> None:
    features = EXTRACTOR(waveforms, sampling_rate=16000, return_tensors="np")["input_features"]
    assert features.shape == (3, 128, 1001)
    assert features.dtype == np.float32


def test_another_sampling_rate_is_refused_with_the_resampler_named() -> None:
    with pytest.raises(ValueError, match=r"44100 Hz.*16000 Hz.*descant\.data\.audio\.resample.*torchaudio"):
        EXTRACTOR([np.zeros(100, np.float32)], sampling_rate=44100)


@pytest.mark.parametrize(
    ("audio", "reason"),
    [
        (np.zeros(160001, np.float32), r"descant\.data\.audio\.windows"),
        (np.zeros(0, np.float32), "mono"),
        (np.zeros((1, 2, 400), np.float32), "mono"),
        (np.zeros(400, np.int16), r"int16.*\[-1, 1\]"),
        (np.full(400, np.nan, np.float32), "NaN"),
    ],
)
def test_unusable_audio_is_refused_with_the_reason(audio: np.ndarray, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        EXTRACTOR([np.zeros(400, np.float32), audio], sampling_rate=16000)


def test_settings_round_trip_through_json(tmp_path) -> None:
    LPMusicCapsFeatureExtractor(n_fft=512, window_s=5.0).save_pretrained(tmp_path)
    loaded = LPMusicCapsFeatureExtractor.from_pretrained(tmp_path)
    assert (loaded.n_fft, loaded.num_samples, loaded.feature_shape) == (512, 80000, [128, 501])
    assert json.loads(loaded.to_json_string())["feature_shape"] == [128, 501]


QUESTIONS = ["Is it fast or slow?", "What instruments are heard in the song?", None]


def test_questions_are_padded_at_their_end(processor: LPMusicCapsProcessor, waveforms: list[np.ndarray]) -> None:
    inputs = processor(audio=waveforms, text=QUESTIONS, sampling_rate=16000, return_tensors="pt")
    lengths = inputs["prompt_attention_mask"].sum(dim=1).tolist()
    assert inputs["input_features"].shape == (3, 128, 1001)
    assert lengths[2] == 0 < lengths[0] < lengths[1] == inputs["prompt_input_ids"].shape[1]
    for row, question in enumerate(QUESTIONS[:2]):
        ids = inputs["prompt_input_ids"][row, : lengths[row]]
        assert ids.tolist() == processor.tokenizer(question)["input_ids"]
        assert (ids[0], ids[-1]) == (0, 2)


@pytest.mark.parametrize("text", [None, [None]])
def test_without_a_question_there_is_no_prompt(processor: LPMusicCapsProcessor, text: list[None] | None) -> None:
    inputs = processor(audio=[np.zeros(400, np.float32)], text=text, sampling_rate=16000, return_tensors="pt")
    assert list(inputs) == ["input_features"]


def test_text_alone_gives_prompts_alone(processor: LPMusicCapsProcessor) -> None:
    inputs = processor(text="Is it fast or slow?", return_tensors="pt")
    assert sorted(inputs) == ["prompt_attention_mask", "prompt_input_ids"]
    assert inputs["prompt_input_ids"].dtype == torch.long


def test_nothing_to_process_is_refused(processor: LPMusicCapsProcessor) -> None:
    with pytest.raises(ValueError, match="neither audio nor text"):
        processor()


def test_unequal_numbers_of_clips_and_questions_are_refused(processor: LPMusicCapsProcessor) -> None:
    with pytest.raises(ValueError, match="1 waveforms and 3 questions"):
        processor(audio=[np.zeros(400, np.float32)], text=QUESTIONS, sampling_rate=16000)


def test_batch_decode_gives_the_text_back(processor: LPMusicCapsProcessor) -> None:
    ids = processor.tokenizer([QUESTIONS[0]])["input_ids"]
    assert processor.batch_decode(ids, skip_special_tokens=True) == [QUESTIONS[0]]


def test_a_saved_processor_loads_equal(processor: LPMusicCapsProcessor, waveforms: list[np.ndarray], tmp_path) -> None:
    processor.save_pretrained(tmp_path)
    loaded = LPMusicCapsProcessor.from_pretrained(tmp_path)
    before, after = (
        p(audio=waveforms[:2], text=QUESTIONS[:2], sampling_rate=16000, return_tensors="pt")
        for p in (processor, loaded)
    )
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert loaded.tokenizer.model_max_length == processor.tokenizer.model_max_length
