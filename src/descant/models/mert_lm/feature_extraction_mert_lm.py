"""The front ends: MERT's, one window of mono waveform at 24 kHz, of mean 0 and variance 1, and one of frozen states.

`FrozenStates` computes the states of a frozen audio encoder, once a clip, so that training never runs the encoder.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn.functional import avg_pool1d
from transformers import (
    BatchFeature,
    FeatureExtractionMixin,
    PreTrainedConfig,
    PreTrainedModel,
    Wav2Vec2FeatureExtractor,
)

from .configuration_mert_lm import MertLMConfig
from .sound_input import fetch_audio, list_waveforms

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
        waveforms = list_waveforms(audio, sampling_rate, self.sampling_rate)
        values = [self.extract(waveform[: self.num_samples] if truncation else waveform) for waveform in waveforms]
        features = np.stack(values) if values else np.zeros((0, self.num_samples), np.float32)
        return BatchFeature({"input_features": features}, tensor_type=return_tensors)

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


MertLMFeatureExtractor.register_for_auto_class()


class FrozenStates:
    """The front end of a feature store: computes a clip's mixed and pooled states, (states, frames, width)."""

    def __init__(
        self, audio_encoder: PreTrainedModel, config: MertLMConfig, feature_extractor: FeatureExtractionMixin
    ) -> None:
        self.audio_encoder, self.config, self.feature_extractor = audio_encoder, config, feature_extractor
        self.sampling_rate, self.window_s = feature_extractor.sampling_rate, feature_extractor.window_s
        self.num_samples = feature_extractor.num_samples

    @cached_property
    def encoder_sha256(self) -> str:
        """The sha256 of the encoder's weights, as they are when it is first asked for."""
        return hash_weights(self.audio_encoder)

    def __reduce__(self) -> tuple:
        # Weight-normalised layers cannot be pickled, and of tensors torch would send an open file each.
        weights = {name: weight.cpu().numpy() for name, weight in self.audio_encoder.state_dict().items()}
        encoder = type(self.audio_encoder), self.audio_encoder.config, weights
        return _restore, (*encoder, self.config, self.feature_extractor)

    def to_dict(self) -> dict[str, Any]:
        """Return all that decides the states: the front end, the encoder's weights, layer mix and pooling."""
        config = self.config
        return {
            **self.feature_extractor.to_dict(),
            "encoder_sha256": self.encoder_sha256,
            "layer_mix": config.layer_mix,
            "pooling": config.pooling,
            "pool_stride": config.pool_stride if config.pooling == "stride" else None,
            "feature_shape": [config.audio_states, config.pooled_frames, config.audio_config.hidden_size],
            "feature_encoding": "float16",
        }

    def extract(self, waveform: np.ndarray) -> np.ndarray:
        """Compute the states (states, frames, width) of one waveform, (samples,) of at most one window."""
        features = torch.as_tensor(np.asarray(self.feature_extractor.extract(waveform)))[None]
        states = encode_states(self.audio_encoder, self.config, features)
        return states[0].float().cpu().numpy()


def _restore(
    kind: type[PreTrainedModel], audio_config: PreTrainedConfig, weights: dict[str, np.ndarray],
    config: MertLMConfig, feature_extractor: FeatureExtractionMixin,
) -> FrozenStates:  # fmt: skip
    encoder = kind(audio_config)
    encoder.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    return FrozenStates(encoder.eval(), config, feature_extractor)


@torch.no_grad()
def encode_states(audio_encoder: PreTrainedModel, config: MertLMConfig, input_features: torch.Tensor) -> torch.Tensor:
    """Compute an encoder's mixed and pooled states (clips, states, frames, width) from what its extractor gives."""
    mix = config.layer_mix
    inputs = bring_to(input_features, audio_encoder.device, audio_encoder.dtype)
    outputs = audio_encoder(inputs, output_hidden_states=mix != "last")
    states = [outputs.last_hidden_state] if mix == "last" else outputs.hidden_states
    states = torch.stack(tuple(states), dim=1)
    return pool(states.mean(dim=1, keepdim=True) if mix == "mean" else states, config)


def bring_to(values: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Convert values to the device and dtype of some weights; offloaded weights have no device, and fetch inputs."""
    return values.to(values.device if device.type == "meta" else device, dtype)


def pool(states: torch.Tensor, config: MertLMConfig) -> torch.Tensor:
    """Average over frames (clips, states, frames, width); the last average of a window may be over fewer."""
    if config.pooling == "none":
        return states
    if config.pooling == "mean":
        return states.mean(dim=2, keepdim=True)
    clips, layers, _, width = states.shape
    by_channel = states.flatten(0, 1).transpose(1, 2)
    pooled = avg_pool1d(by_channel, config.pool_stride, ceil_mode=True)
    return pooled.transpose(1, 2).reshape(clips, layers, -1, width)


def hash_weights(module: torch.nn.Module) -> str:
    """Return the sha256 of a module's weights and their names."""
    digest = hashlib.sha256()
    for name, weight in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        digest.update(weight.detach().float().cpu().contiguous().numpy())
    return digest.hexdigest()


__all__ = ["FrozenStates", "MertLMFeatureExtractor"]
