"""Tests of musicnn's front end against a plain reimplementation, and of what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from descant.models.musicnn import MusicnnFeatureExtractor

EXTRACTOR = MusicnnFeatureExtractor(window_s=1.0)


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    """0.8 s of a falling tone with noise."""
    time = np.arange(12_800) / 16_000
    noise = np.random.default_rng(0).standard_normal(time.size)
    return (0.3 * np.sin(2 * np.pi * (3000 - 2000 * time) * time) + 0.02 * noise).astype(np.float32)


def slaney_hertz(mel: np.ndarray) -> np.ndarray:
    """Slaney's scale: 66.7 Hz a mel up to 1,000 Hz, from there a factor of 6.4 every 27 mel."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))


def plain_log_mel(waveform: np.ndarray) -> np.ndarray:
    """The front end once more from its description, in double precision and without torch."""
    padded = np.pad(np.pad(waveform.astype(np.float64), (0, 16_000 - len(waveform))), 256)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 512)[::256]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2  # (frames, 257)
    hertz = slaney_hertz(np.linspace(0, 15 + 27 * np.log(8) / np.log(6.4), 98))
    bins = np.linspace(0, 8000, 257)[:, None]
    rising = (bins - hertz[:-2]) / (hertz[1:-1] - hertz[:-2])
    falling = (hertz[2:] - bins) / (hertz[2:] - hertz[1:-1])
    filters = np.clip(np.minimum(rising, falling), 0, None) * 2 / (hertz[2:] - hertz[:-2])
    return np.log10(1 + 10_000 * power @ filters)


def test_log_mel_is_that_of_a_plain_reimplementation(waveform: np.ndarray) -> None:
    features = EXTRACTOR.extract(waveform)
    assert features.shape == (63, 96) and features.max() > 4
    np.testing.assert_allclose(features, plain_log_mel(waveform), atol=1e-5)


def test_padding_is_silence_which_is_exactly_zero(waveform: np.ndarray) -> None:
    features = EXTRACTOR.extract(waveform)
    np.testing.assert_array_equal(features, EXTRACTOR.extract(np.pad(waveform, (0, 3_200))))
    assert (features[52:] == 0).all() and features[50].any()


def test_a_batch_is_each_of_its_rows(waveform: np.ndarray) -> None:
    batch = torch.from_numpy(np.stack([waveform, waveform[::-1].copy()]))
    both = EXTRACTOR.extract(batch)
    assert both.shape == (2, 63, 96)
    torch.testing.assert_close(both[1], EXTRACTOR.extract(batch[1]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("convert", [list, tuple, torch.from_numpy, lambda array: array])
def test_one_waveform_of_any_kind_gives_one_row(waveform: np.ndarray, convert) -> None:
    features = EXTRACTOR(convert(waveform[:400]), sampling_rate=16_000, return_tensors="pt")["input_features"]
    assert features.shape == (1, 63, 96)


def test_a_list_of_waveforms_of_different_lengths_gives_a_row_each(waveform: np.ndarray) -> None:
    features = EXTRACTOR([waveform, waveform[:99]], sampling_rate=16_000, return_tensors="np")["input_features"]
    assert features.shape == (2, 63, 96)
    assert features.dtype == np.float32


@pytest.mark.parametrize(
    ("audio", "rate", "reason"),
    [
        (np.zeros(100, np.float32), 44_100, r"44100 Hz.*16000 Hz.*descant\.data\.audio\.resample"),
        (np.zeros(16_001, np.float32), 16_000, r"descant\.data\.audio\.windows"),
        (np.zeros(0, np.float32), 16_000, "mono"),
        (np.zeros((1, 2, 400), np.float32), 16_000, "mono"),
        (np.zeros(400, np.int16), 16_000, r"int16.*\[-1, 1\]"),
        (np.full(400, np.nan, np.float32), 16_000, "NaN"),
    ],
)
def test_unusable_audio_is_refused_with_the_reason(audio: np.ndarray, rate: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        EXTRACTOR([np.zeros(400, np.float32), audio], sampling_rate=rate)


def test_settings_round_trip_and_the_window_may_be_another(tmp_path: Path) -> None:
    EXTRACTOR.save_pretrained(tmp_path)
    loaded = MusicnnFeatureExtractor.from_pretrained(tmp_path)
    assert (loaded.num_samples, loaded.feature_shape) == (16_000, [63, 96])
    longer = MusicnnFeatureExtractor.from_pretrained(tmp_path, window_s=30.0)
    assert (longer.num_samples, longer.feature_shape) == (480_000, [1876, 96])
    assert json.loads(longer.to_json_string())["feature_shape"] == [1876, 96]
