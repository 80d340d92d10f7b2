"""The audio front end of musicnn: mono waveform at 16 kHz to the log-mel spectrogram its networks were trained on."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature
from transformers.feature_extraction_utils import FeatureExtractionMixin

from .sound_input import fetch_audio, list_waveforms

Waveform = np.ndarray | torch.Tensor | Sequence[float]


# Slaney's mel scale: linear up to 1,000 Hz, which is 15 mel, from there a factor of 6.4 every 27 mel.
LINEAR_HERTZ, LINEAR_MEL = 1000.0, 15.0
MEL_A_LOG = 27.0 / math.log(6.4)


@lru_cache(maxsize=8)
def mel_filters(n_fft: int, num_mel_bins: int, sampling_rate: int, f_min: float, f_max: float) -> torch.Tensor:
    """Build Slaney's triangular mel filters, each of area 1, (n_fft // 2 + 1, num_mel_bins).

    In double precision as in librosa: torchaudio's, in single precision, move the log-mel by 3e-5.
    """
    mel = torch.linspace(hertz_to_mel(f_min), hertz_to_mel(f_max), num_mel_bins + 2, dtype=torch.float64)
    above = LINEAR_HERTZ * ((mel - LINEAR_MEL) / MEL_A_LOG).exp()
    edges = torch.where(mel < LINEAR_MEL, mel * LINEAR_HERTZ / LINEAR_MEL, above)
    hertz = torch.linspace(0, sampling_rate / 2, n_fft // 2 + 1, dtype=torch.float64)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    triangles = torch.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle)).clamp(min=0)
    return (triangles * 2 / (high - low)).float()


def hertz_to_mel(hertz: float) -> float:
    """Return a frequency on Slaney's mel scale."""
    if hertz < LINEAR_HERTZ:
        return hertz * LINEAR_MEL / LINEAR_HERTZ
    return LINEAR_MEL + MEL_A_LOG * math.log(hertz / LINEAR_HERTZ)


class MusicnnFeatureExtractor(FeatureExtractionMixin):
    """Turns waveforms into `input_features` (batch, frames, num_mel_bins): (batch, 626, 96) for windows of 10 s."""

    model_input_names = ["input_features"]
    padding_value = 0.0  # pipelines ask for it; every clip fills one window

    def __init__(
        self,
        sampling_rate: int = 16000,
        window_s: float = 10.0,
        n_fft: int = 512,
        hop_length: int = 256,
        num_mel_bins: int = 96,
        f_min: float = 0.0,
        f_max: float = 8000.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sampling_rate = sampling_rate
        self.window_s = window_s
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.num_mel_bins = num_mel_bins
        self.f_min = f_min
        self.f_max = f_max
        self.feature_shape = [self.num_samples // hop_length + 1, num_mel_bins]

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
        """Compute one log-mel a waveform.

        audio: one mono waveform in [-1, 1], or a list of them, each at most one window long; shorter ones are
            padded with silence at the end. A longer window, of a whole song too, is another `window_s`.
        padding, max_length: as other extractors have them; every clip fills one window, so only that can be asked for.
        truncation: cut longer waveforms at one window.
        device: where to compute.

        Raises ValueError for another sampling rate, for audio that is not a finite mono float waveform, and where
        another length than one window is asked for.
        """
        if padding in (False, "do_not_pad") or max_length not in (None, self.num_samples):
            raise ValueError(f"a clip always fills {self.num_samples} samples: leave padding and max_length out")
        checked = list_waveforms(audio, sampling_rate, self.sampling_rate)
        waveforms = [torch.from_numpy(waveform).to(device or "cpu") for waveform in checked]
        mels = [self._log_mel(waveform[: self.num_samples] if truncation else waveform) for waveform in waveforms]
        features = torch.stack(mels).cpu().numpy() if mels else np.zeros((0, *self.feature_shape), np.float32)
        return BatchFeature({"input_features": features}, tensor_type=return_tensors)

    def fetch_audio(self, audio_url_or_urls: Any, sampling_rate: int | None = None) -> Any:
        """Read a path, URL, bytes or waveform, or each of a list, as one window at the model's rate; ValueError.

        sampling_rate: of waveforms, in Hz. Of a longer recording its middle window is heard, and that is logged.
        """
        return fetch_audio(audio_url_or_urls, self, sampling_rate)

    def extract(self, waveform: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        """Compute log10(1 + 10,000 · mel): (samples,) → (frames, 96), (batch, samples) → (batch, frames, 96).

        Silence is exactly 0. The frames at both ends are padded with zeros, as in the original's librosa 0.9. Returns
        what it was given: an array for an array, a tensor (on the same device) for a tensor.
        """
        if isinstance(waveform, np.ndarray):
            return self._log_mel(torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))).numpy()
        return self._log_mel(waveform)

    def _log_mel(self, waveform: torch.Tensor) -> torch.Tensor:
        waveform = self._padded(waveform.float())
        window = torch.hann_window(self.n_fft, device=waveform.device)
        stft = torch.stft(
            waveform, self.n_fft, self.hop_length, window=window, center=True, pad_mode="constant", return_complex=True
        )
        power = stft.real.square() + stft.imag.square()  # (..., n_fft // 2 + 1, frames)
        filters = mel_filters(self.n_fft, self.num_mel_bins, self.sampling_rate, self.f_min, self.f_max)
        return (1.0 + 10_000.0 * (power.mT @ filters.to(power.device))).log10()

    def _padded(self, waveform: torch.Tensor) -> torch.Tensor:
        missing = self.num_samples - waveform.shape[-1]
        if missing < 0:
            raise ValueError(
                f"the audio has {waveform.shape[-1]} samples, more than one window of {self.num_samples} "
                f"({self.window_s:g} s at {self.sampling_rate} Hz): cut it with descant.data.audio.windows"
            )
        return torch.nn.functional.pad(waveform, (0, missing))


MusicnnFeatureExtractor.register_for_auto_class()

__all__ = ["MusicnnFeatureExtractor"]
