"""What the ears hear of clips: states, as a run of the recipe reads them, and the tags of musicnn's networks."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from descant.data.clips import ClipFile
from descant.data.extraction import extract_features
from descant.data.features import FeatureStore
from descant.models.mert_lm.configuration_mert_lm import MertLMConfig
from descant.models.mert_lm.feature_extraction_mert_lm import FrozenStates
from descant.models.musicnn import PRETRAINED, MusicnnFeatureExtractor, MusicnnModel


def open_ears() -> FrozenStates:
    """Return what computes the states of a clip: the mean over its patches, as the recipe has it."""
    model = MusicnnModel.from_pretrained(PRETRAINED).eval()
    config = MertLMConfig(audio_config=model.config, layer_mix="last", pooling="mean")
    return FrozenStates(model, config, MusicnnFeatureExtractor.from_pretrained(PRETRAINED))


def hear_clips(clips: Mapping[str, Path], features: str) -> dict[str, np.ndarray]:
    """Return the mean state (width,) of each clip by its id; clips that cannot be heard are left out.

    features: the folder of the feature store, which a run of the recipe goes on with.
    """
    ears = open_ears()
    store = FeatureStore(features, ears.to_dict())
    sounds = {clip: ClipFile(str(path), is_clip=True) for clip, path in clips.items()}
    for problem in extract_features(sounds, ears, store, progress=True).problems:
        print(f"left out: {problem}")
    store.refresh()
    return {clip: store.read(clip)[0, 0] for clip in clips if clip in store}


def name_tags(states: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Return the probability of each tag, `network tag`, by clip id."""
    model = MusicnnModel.from_pretrained(PRETRAINED).eval()
    probabilities = read_tags(model, torch.from_numpy(np.stack(list(states.values()))))
    names = [f"{name} {tag}" for name in model.config.networks for tag in model.config.tags_of(name)]
    return {clip: dict(zip(names, row.tolist(), strict=True))
            for clip, row in zip(states, probabilities, strict=True)}  # fmt: skip


@torch.no_grad()
def read_tags(model: MusicnnModel, states: torch.Tensor) -> torch.Tensor:
    """Return tag probabilities (clips, tags) of mean states (clips, width), which hold both penultimate states."""
    size = model.config.penultimate_size
    parts = states[:, : size * len(model.networks)].split(size, dim=1)
    logits = [network.classifier(part) for network, part in zip(model.networks.values(), parts, strict=True)]
    return torch.cat(logits, dim=1).sigmoid()
