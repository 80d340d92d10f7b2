"""Sounds that are no music: speech, noises, engines, rain, and birds and whales of sweeping tones."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from box_corpus.singers import LANGUAGES, RATE, SECONDS, VOICES, WORDS, reverberate, speak
from descant.files import replace_whole

SIZE = round(RATE * SECONDS)


def make_no_music(folder: Path, count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Write `count` clips as FLAC, a tenth for validation; those that are there stay. Yields their records."""
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        kind, make = KINDS[number % len(KINDS)]
        path = folder / f"other-{kind}-{number}.flac"
        if not path.exists():
            samples = make(rng, np.random.default_rng(rng.getrandbits(32)))[:SIZE]
            with replace_whole(path) as partial:
                soundfile.write(partial, rng.uniform(0.05, 0.8) * samples / (np.abs(samples).max() + 1e-9), RATE)
        split = "validation" if number // len(KINDS) % 10 == 9 else "train"
        yield {"clip_id": path.stem, "file": path.name, "split": split, "kind": kind}


def talk(rng: random.Random, noise: np.random.Generator) -> np.ndarray:
    """Return somebody speaking, in a room, often over some noise."""
    voice = f"{rng.choice(LANGUAGES)}+{rng.choice(VOICES[rng.choice(list(VOICES))])}"
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < SIZE:
        words = " ".join(rng.choice(WORDS) for _ in range(rng.randint(4, 12)))
        parts += [speak(voice, f'<prosody rate="{rng.randint(80, 130)}%">{words}.</prosody>'), np.zeros(RATE // 4)]
    speech = reverberate(np.concatenate(parts)[:SIZE].astype(np.float32), rng)
    return speech + rng.choice((0.0, 0.02, 0.1)) * speech.std() * color(noise, rng.choice((0.0, 1.0)))


def color(noise: np.random.Generator, slope: float) -> np.ndarray:
    """Return noise whose amplitude falls with the frequency to a power: 0 white, 0.5 pink, 1 brown."""
    spectrum = np.fft.rfft(noise.standard_normal(SIZE))
    shaped = np.fft.irfft(spectrum / np.maximum(1, np.arange(len(spectrum))) ** slope, SIZE)
    return shaped / shaped.std()


def hiss(rng: random.Random, noise: np.random.Generator) -> np.ndarray:
    """Return steady noise, or noise that swells as wind and waves do."""
    return color(noise, rng.choice((0.0, 0.3, 0.5, 0.8, 1.0))) * swelling(rng, noise)


def swelling(rng: random.Random, noise: np.random.Generator) -> np.ndarray:
    """Return a level (samples,) that wanders, or stays."""
    if rng.random() < 0.4:
        return np.ones(SIZE)
    points = rng.randint(4, 40)
    return np.interp(np.arange(SIZE), np.linspace(0, SIZE, points), noise.uniform(0.05, 1, points))


def crackle(rng: random.Random, noise: np.random.Generator) -> np.ndarray:
    """Return drops of rain, clicks or footsteps: short bursts at random times."""
    samples = 0.01 * color(noise, 0.5)
    length = rng.choice((40, 200, 1500))
    for start in noise.integers(0, SIZE - length, rng.choice((12, 60, 400))):
        burst = noise.standard_normal(length) * np.exp(-6 * np.arange(length) / length)
        samples[start : start + length] += noise.uniform(0.1, 1) * burst
    return samples


def hum(rng: random.Random, noise: np.random.Generator) -> np.ndarray:
    """Return an engine or mains: a low tone with overtones, and noise."""
    time, base = np.arange(SIZE) / RATE, rng.uniform(30, 160)
    wander = 1 + 0.02 * np.cumsum(noise.standard_normal(SIZE)) / np.sqrt(SIZE)
    tones = sum(noise.uniform(0, 1) * np.sin(2 * np.pi * base * order * time * wander) for order in range(1, 9))
    return tones + rng.uniform(0.1, 2) * color(noise, 1.0) * swelling(rng, noise)


def calls(rng: random.Random, noise: np.random.Generator) -> np.ndarray:
    """Return birds or whales: sweeping tones with pauses, over a quiet background."""
    low = rng.random() < 0.35
    bounds, lengths = ((60, 900), (0.8, 3.0)) if low else ((1800, 7000), (0.03, 0.35))
    samples = rng.choice((0.002, 0.02, 0.1)) * color(noise, 0.5)
    start = 0
    while start < SIZE:
        size = round(rng.uniform(*lengths) * RATE)
        pitch = np.interp(np.arange(size), np.linspace(0, size, 4), [rng.uniform(*bounds) for _ in range(4)])
        if rng.random() < 0.4:
            pitch *= 1 + 0.1 * np.sin(2 * np.pi * rng.uniform(8, 40) * np.arange(size) / RATE)
        tone = np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * np.hanning(size)
        part = samples[start : start + size]
        part += rng.uniform(0.2, 1) * tone[: len(part)]
        start += size + round(rng.choice((0.02, 0.1, 0.6)) * RATE)
    return samples


Make = Callable[[random.Random, np.random.Generator], np.ndarray]
KINDS: tuple[tuple[str, Make], ...] = (
    ("speech", talk), ("noise", hiss), ("field", calls), ("speech", talk), ("noise", crackle), ("field", hum),
)  # fmt: skip
