"""The states of a frozen audio encoder, computed once a clip, so that training never runs the encoder."""

import hashlib
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn.functional import avg_pool1d
from transformers import FeatureExtractionMixin, PreTrainedConfig, PreTrainedModel

from .configuration_mert_lm import MertLMConfig


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
