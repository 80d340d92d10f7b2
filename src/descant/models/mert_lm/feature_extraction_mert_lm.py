"""The audio front end of MERT: one window of mono waveform at 24 kHz, of mean 0 and variance 1."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, Wav2Vec2FeatureExtractor

from .sound_input import fetch_audio

Waveform = np.ndarray | torch.Tensor | Sequence[float]


class MertLMFeatureExtractor(Wav2Vec2FeatureExtractor):
    """Turns waveforms into `input_features` (batch, samples of one window), shorter ones padded with zeros."""

    model_input_names = ["input_features"]

    def __init__(
        self, sampling_rate: int = 24000, window_s: float = 10.0, do_normalize: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(sampling_rate=sampling_rate, do_normalize=do_normalize, **kwargs)
        self.window_s = window_s
        self.feature_shape = [self.num_samples]

    @property
    def num_samples(self) -> int:
        """Samples of one window."""
        return round(self.window_s * self.sampling_rate)

    def __call__(
        self,
        audio: Waveform | Sequence[Waveform],
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        *,
        padding: bool | str = True,
        truncation: bool = False,
        max_length: int | None = None,
        device: torch.device | str | None = None,
    ) -> BatchFeature:
        """Normalise and pad waveforms.

        audio: one mono waveform in [-1, 1], or a list of them, each at most one window long.
        padding, max_length: as other extractors have them; every clip fills one window, so only that can be asked for.
        truncation: cut longer waveforms at one window.
        device: ignored, since there is next to nothing to compute.

        Raises ValueError for another sampling rate, for audio that is not a finite mono float waveform, and where
        another length than one window is asked for.
        """
        if padding in (False, "do_not_pad") or max_length not in (None, self.num_samples):
            raise ValueError(f"a clip always fills {self.num_samples} samples: leave padding and max_length out")
        is_one = isinstance(audio, np.ndarray | torch.Tensor) or (len(audio) > 0 and np.ndim(audio[0]) == 0)
        waveforms: list[Any] = list(audio) if np.ndim(audio[0]) > 0 or not is_one else [audio]
        if sampling_rate not in (None, self.sampling_rate):
            raise ValueError(
                f"the audio has a sampling rate of {sampling_rate} Hz, the model needs {self.sampling_rate} Hz: "
                f"resample it with descant.data.audio.resample(waveform, {sampling_rate}, {self.sampling_rate}) "
                "or torchaudio.functional.resample"
            )
        checked = [self._checked(waveform, number) for number, waveform in enumerate(waveforms)]
        values = [self.extract(waveform[: self.num_samples] if truncation else waveform) for waveform in checked]
        return BatchFeature({"input_features": np.stack(values)}, tensor_type=return_tensors)

    def fetch_audio(self, audio_url_or_urls: Any, sampling_rate: int | None = None) -> Any:
        """Read a path, URL, bytes or waveform, or each of a list, as one window at the model's rate; ValueError.

        sampling_rate: of waveforms, in Hz. Of a longer recording its middle window is heard, and that is logged.
        """
        return fetch_audio(audio_url_or_urls, self, sampling_rate)

    def extract(self, waveform: np.ndarray | torch.Tensor) -> np.ndarray:
        """Normalise and pad one waveform (samples,) → (samples of a window,)."""
        waveform = np.asarray(waveform, dtype=np.float32)
        if len(waveform) > self.num_samples:
            raise ValueError(
                f"the audio has {len(waveform)} samples, more than one window of {self.num_samples} "
                f"({self.window_s:g} s at {self.sampling_rate} Hz): cut it with descant.data.audio.windows"
            )
        if self.do_normalize:
            (waveform,) = self.zero_mean_unit_var_norm([waveform], None)
        return np.pad(waveform, (0, self.num_samples - len(waveform)))

    @staticmethod
    def _checked(waveform: Waveform, position: int) -> np.ndarray:
        waveform = np.asarray(waveform)
        if waveform.ndim != 1 or waveform.size == 0:
            raise ValueError(f"audio {position} has shape {waveform.shape}: give one mono waveform, (samples,)")
        if not np.issubdtype(waveform.dtype, np.floating):
            raise ValueError(f"audio {position} holds {waveform.dtype}: give floats in [-1, 1]")
        if not np.isfinite(waveform).all():
            raise ValueError(f"audio {position} holds NaN or infinite samples: decode it again or leave it out")
        return waveform


MertLMFeatureExtractor.register_for_auto_class()

__all__ = ["MertLMFeatureExtractor"]
