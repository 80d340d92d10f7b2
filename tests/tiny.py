"""A model small enough to answer in milliseconds, and recordings whose windows it answers differently."""

from pathlib import Path

import numpy as np
import soundfile
import torch

from descant.models.lp_music_caps import (
    LPMusicCapsConfig,
    LPMusicCapsFeatureExtractor,
    LPMusicCapsForConditionalGeneration,
    LPMusicCapsProcessor,
)
from descant.training.start import train_tokenizer

TEXTS = ("What is the genre?", "Which instruments play?", "a slow piano and drums", "jazz rock with a loud guitar")


def build_tiny_model(seed: int = 0) -> tuple[LPMusicCapsForConditionalGeneration, LPMusicCapsProcessor]:
    """A random model; its weights are large, so that small differences of what it hears change what it says."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(TEXTS)
    config = LPMusicCapsConfig.small(vocab_size=len(tokenizer), d_model=16, layers=1, heads=2, init_std=1.0)
    model = LPMusicCapsForConditionalGeneration(config).eval()
    model.generation_config.update(max_length=8, num_beams=2)
    return model, LPMusicCapsProcessor(LPMusicCapsFeatureExtractor(), tokenizer)


def save_tiny_model(folder: Path, seed: int = 0) -> Path:
    """Writes the model folder, and returns it."""
    model, processor = build_tiny_model(seed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_song(path: Path, seconds: float = 25.0, rate: int = 44_100, start_hertz: float = 110.0) -> Path:
    """Writes a tone that climbs a fifth every 5 s, so that no two windows sound alike."""
    times = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * start_hertz * 1.5 ** np.floor(times / 5) * times)
    soundfile.write(path, wave, rate)
    return path
