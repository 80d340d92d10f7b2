"""Tests of the front end: one window, normalised as MERT's own, refusals."""

import numpy as np
import pytest
from transformers import Wav2Vec2FeatureExtractor

from descant.models.mert_lm import MertLMFeatureExtractor

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
