"""What a model hears and is asked in each audio control: another clip, noise, silence, or no question.

A score that a model keeps without the right audio comes from the question and from what answers usually say.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from transformers import FeatureExtractionMixin

from descant.data.collator import FeatureReader
from descant.evaluation.grounding import derangement

CONTROLS = ("shuffled", "noise", "silence", "no_question")
NOISE_RMS = 0.1  # -20 dBFS, as loud as music


class HashedFeatures(FeatureReader, Protocol):
    """Features of which each clip's have a hash, as in a feature store."""

    def feature_sha256(self, clip_id: str) -> str: ...


@dataclass(frozen=True)
class Condition:
    """One way to answer all questions; `own` is the model as it is used."""

    name: str
    features: HashedFeatures
    heard: Mapping[str, str] = field(default_factory=dict)  # clip → the clip heard in its place
    asks: bool = True

    def read(self, clip_id: str) -> np.ndarray:
        """The features (bands, frames) that stand for a clip."""
        return self.features.read(self.heard.get(clip_id, clip_id))

    def heard_hash(self, clip_id: str) -> str:
        """Hash of those features: an answer about others says nothing of these."""
        return self.features.feature_sha256(self.heard.get(clip_id, clip_id))


@dataclass(frozen=True)
class Noise:
    """White noise at −20 dBFS in the place of every clip, seeded by the clip's id."""

    extractor: FeatureExtractionMixin

    def read(self, clip_id: str, out: np.ndarray | None = None) -> np.ndarray:
        """Features (bands, frames)."""
        seed = int.from_bytes(hashlib.sha256(clip_id.encode()).digest()[:8], "big")
        noise = np.random.default_rng(seed).normal(scale=NOISE_RMS, size=self.extractor.num_samples)
        return np.asarray(self.extractor.extract_mel(noise.astype(np.float32)))

    def feature_sha256(self, clip_id: str) -> str:
        """A word for a hash: the clip's id and the model's extractor decide the noise."""
        return "noise"


@dataclass(frozen=True)
class Silence:
    """Digital silence in the place of every clip."""

    extractor: FeatureExtractionMixin

    def read(self, clip_id: str, out: np.ndarray | None = None) -> np.ndarray:
        """Features (bands, frames)."""
        return np.asarray(self.extractor.extract_mel(np.zeros(self.extractor.num_samples, dtype=np.float32)))

    def feature_sha256(self, clip_id: str) -> str:
        """A word for a hash: the model's extractor decides the silence."""
        return "silence"


def make_conditions(
    features: HashedFeatures, extractor: FeatureExtractionMixin, clips: Iterable[str], asked: bool, seed: int = 0
) -> list[Condition]:
    """Every control; the one without a question only where questions are `asked`."""
    conditions = [
        Condition("shuffled", features, heard=derangement(clips, seed)),
        Condition("noise", Noise(extractor)),
        Condition("silence", Silence(extractor)),
    ]
    return [*conditions, Condition("no_question", features, asks=False)] if asked else conditions
