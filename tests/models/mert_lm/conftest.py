"""A joined model of kilobytes, and what it hears."""

import numpy as np
import pytest
from tiny_mert_lm import join_tiny, save_parts
from transformers import PreTrainedModel

from descant.models.mert_lm import MertLMProcessor


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return save_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def joined(parts: tuple[str, str]) -> tuple[PreTrainedModel, MertLMProcessor]:
    return join_tiny(parts)


@pytest.fixture(scope="session")
def waveforms() -> list[np.ndarray]:
    """Three clips of 1, 0.6 and 0.7 s: tones with noise, at 24 kHz."""
    noise = np.random.default_rng(0)
    clips = []
    for seconds, pitch in ((1.0, 220.0), (0.6, 440.0), (0.7, 880.0)):
        time = np.arange(round(seconds * 24_000)) / 24_000
        tone = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.1 * noise.standard_normal(time.size)
        clips.append(tone.astype(np.float32))
    return clips
