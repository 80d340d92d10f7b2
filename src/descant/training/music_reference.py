"""Fits what tells music from other sounds: training clips, varied so that recordings count too, and made sounds.

Made are noise of many colours, tones, and speech put together from formants. Nothing is read but the clips.
"""

from collections.abc import Iterable
from functools import cache

import numpy as np
import torch

from descant.models.lp_music_caps.track_music import MusicReference, describe_sound, measure_bands, measure_nearness

CENTRES = 64  # of music, and as many of other sounds
WITHIN = 0.98  # of the validation clips count as music
VARIED = 2  # times that each clip is varied
OTHERS = 150  # sounds of each kind at most
ROUNDS = 15  # of k-means
RIDGE = 1e-3
SECONDS = 10


def fit_reference(
    train: Iterable[np.ndarray],
    validation: Iterable[np.ndarray],
    sampling_rate: int,
    others: Iterable[np.ndarray] | None = None,
    seed: int = 0,
) -> MusicReference | None:
    """Fit what tells music from other sounds; None where there are no training clips to fit it on.

    The limit lies halfway between both, or higher where fewer than 98 of 100 validation clips would be music.

    Args:
        train: waveforms (samples,) of training clips.
        validation: those of validation clips.
        sampling_rate: of all of them, in Hz.
        others: waveforms that are no music; sounds are made in place of None.
        seed: of what is drawn.
    """
    clips = [measure_bands(torch.from_numpy(waveform), sampling_rate) for waveform in train]
    if not clips:
        return None
    generator = np.random.default_rng(seed)
    made = make_sounds(sampling_rate, min(OTHERS, 2 + len(clips) // 3)) if others is None else others
    music = [*clips, *(vary(clip, clips, generator) for _ in range(VARIED) for clip in clips)]
    points = [
        np.stack([describe_sound(one) for one in music]),
        np.stack([describe_sound(measure_bands(torch.from_numpy(one), sampling_rate)) for one in made]),
    ]
    mean, spread = np.concatenate(points).mean(axis=0), np.concatenate(points).std(axis=0) + 1e-3
    places = [(one - mean) / spread for one in points]
    centres = np.concatenate([find_centres(one, min(CENTRES, len(one)), seed) for one in places])
    weights = fit_weights(places[0], places[1], centres)
    rounded = [np.round(one, 4).tolist() for one in (mean, spread, centres, weights)]
    reference = MusicReference(rounded[0], rounded[1], rounded[2], rounded[3], limit=0.0)
    scores = [
        reference.score(describe_sound(measure_bands(torch.from_numpy(one), sampling_rate))) for one in validation
    ]
    reference.limit = round(max(0.0, float(np.quantile(scores, WITHIN))) if scores else 0.0, 4)
    return reference


def fit_weights(music: np.ndarray, others: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Fit weights (centres,) by ridge regression to −1 for music, 1 for others; both count alike, however many."""
    nearness = measure_nearness(np.concatenate([music, others]), centres)
    wanted = np.concatenate([np.full(len(music), -1.0), np.ones(len(others))])
    counts = np.where(wanted < 0, 0.5 / len(music), 0.5 / len(others))
    square = nearness.T @ (counts[:, None] * nearness) + RIDGE * np.eye(len(centres))
    return np.linalg.solve(square, nearness.T @ (counts * wanted))


def find_centres(places: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Cluster points (points, features) by k-means; returns the centres (count, features)."""
    generator = np.random.default_rng(seed)
    centres = places[generator.choice(len(places), count, replace=False)]
    for _ in range(ROUNDS):
        squares = (places**2).sum(axis=1)[:, None] - 2 * places @ centres.T + (centres**2).sum(axis=1)
        nearest = squares.argmin(axis=1)
        filled = [places[nearest == number].mean(axis=0) if (nearest == number).any() else centres[number]
                  for number in range(count)]  # fmt: skip
        centres = np.stack(filled)
    return centres


def vary(bands: np.ndarray, clips: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """Vary a clip's power in mel bands (bands, frames) as recordings do: mixed, equalised, compressed, with hiss."""
    varied = bands / bands.mean()
    if generator.random() < 0.5:
        other = clips[generator.integers(len(clips))]
        frames = min(varied.shape[1], other.shape[1])
        varied = varied[:, :frames] + 10 ** (generator.uniform(-12, 0) / 10) * other[:, :frames] / other.mean()
    height = np.linspace(-1, 1, len(bands))
    curve = generator.normal(0, 6) * height + generator.normal(0, 4) * (height**2 - 0.33)
    varied = varied * 10 ** ((curve + generator.normal(0, 3, len(bands)))[:, None] / 10)
    level = varied.mean(axis=0)
    varied = varied * np.maximum(level / level.mean(), 1e-4) ** -generator.uniform(0, 0.6)
    slope = 10 ** (-generator.uniform(0, 0.6) * (height + 1))
    hiss = 10 ** (generator.uniform(-50, -22) / 10) * slope[:, None] / slope.mean()
    return varied / varied.mean() + hiss * generator.exponential(1, varied.shape)


@cache
def make_sounds(sampling_rate: int, count: int) -> list[np.ndarray]:
    """Make waveforms (samples,) of 10 s that are no music: `count` of noise, of tones, twice as many of speech.

    They are the same each time.
    """
    generator = np.random.default_rng(0)
    kinds = (make_noise, make_tone, make_speech, make_speech)  # speech is what is most like music
    waves = [kind(sampling_rate, generator) for kind in kinds for _ in range(count)]
    return [(wave / np.abs(wave).max()).astype(np.float32) for wave in waves]


def make_noise(rate: int, generator: np.random.Generator) -> np.ndarray:
    """Make noise of any colour, some of it in a band, some of it swelling."""
    samples = rate * SECONDS
    hertz = np.fft.rfftfreq(samples, 1 / rate)
    spectrum = np.fft.rfft(generator.normal(size=samples)) / np.maximum(hertz, 20) ** generator.uniform(-0.3, 1.3)
    if generator.random() < 0.4:
        spectrum /= 1 + (hertz / (rate / 2 * 2 ** -generator.uniform(0, 2))) ** 8
    if generator.random() < 0.3:
        spectrum /= 1 + (20 * 2 ** generator.uniform(0, 4) / np.maximum(hertz, 1)) ** 8
    wave = np.fft.irfft(spectrum, samples)
    if generator.random() < 0.3:
        times = np.arange(samples) / rate
        wave *= 1 + generator.uniform(0, 0.9) * np.sin(2 * np.pi * generator.uniform(0.1, 8) * times)
    return wave


def make_tone(rate: int, generator: np.random.Generator) -> np.ndarray:
    """Make one tone of up to 16 harmonics, some of them gated, some with hiss."""
    times = np.arange(rate * SECONDS) / rate
    hertz, fall = np.exp(generator.uniform(np.log(50), np.log(6000))), generator.uniform(0.3, 3)
    wave = np.zeros(len(times))
    for harmonic in range(1, generator.integers(2, 18)):
        if harmonic == 1 or harmonic * hertz < rate / 2:
            wave += np.sin(2 * np.pi * harmonic * hertz * times + generator.uniform(0, 6)) / harmonic**fall
    if generator.random() < 0.4:
        wave *= np.sin(2 * np.pi * generator.uniform(0.3, 10) * times) > generator.uniform(-0.8, 0.8)
    if generator.random() < 0.3:
        wave += 10 ** (-generator.uniform(20, 60) / 20) * generator.normal(size=len(times))
    return wave


def make_speech(rate: int, generator: np.random.Generator) -> np.ndarray:
    """Make what has the rhythm and the sound of speech: gliding voiced sounds with four formants, hisses, pauses."""
    wave, start = np.zeros(rate * SECONDS), 0
    pitch, pace = generator.uniform(75, 250), generator.uniform(0.7, 1.4)
    while start < len(wave):
        kind, length = generator.random(), int(rate * pace * generator.uniform(0.04, 0.16))
        if kind < 0.12:
            length = int(rate * generator.uniform(0.03, 0.5 if generator.random() < 0.3 else 0.1))
            piece = np.zeros(length)
        elif kind < 0.32:
            low = generator.uniform(1500, 5000)
            piece = keep_band(generator.normal(size=length), rate, low, low * generator.uniform(1.3, 2.0))
            piece *= 10 ** (generator.uniform(-20, -6) / 20) * np.hanning(length) ** 0.3
        else:
            following = float(np.clip(pitch * 2 ** generator.uniform(-0.4, 0.4), 70, 350))
            piece = voice(np.geomspace(pitch, following, length), rate, generator)
            piece *= 10 ** (generator.uniform(-8, 0) / 20) * np.hanning(length) ** 0.25
            pitch = following
        wave[start : start + length] = piece[: len(wave) - start]
        start += length
    return wave


def keep_band(wave: np.ndarray, rate: int, low: float, high: float) -> np.ndarray:
    """Return what of a waveform (samples,) lies between two frequencies in Hz, at most at 1."""
    spectrum = np.fft.rfft(wave)
    hertz = np.fft.rfftfreq(len(wave), 1 / rate)
    kept = np.fft.irfft(np.where((hertz > low) & (hertz < high), spectrum, 0), len(wave))
    return kept / (np.abs(kept).max() + 1e-9)


def voice(pitch: np.ndarray, rate: int, generator: np.random.Generator) -> np.ndarray:
    """Return pulses at a pitch (samples,) in Hz through four formants, at most at 1."""
    pulses = np.diff(np.floor(np.cumsum(pitch) / rate), prepend=0) + 0.01 * generator.normal(size=len(pitch))
    hertz = np.fft.rfftfreq(len(pitch), 1 / rate)
    response = 1 / (1 + 1j * hertz / generator.uniform(100, 2000))
    for low, high, width in ((250, 850, 80), (800, 2400, 110), (2200, 3200, 160), (3200, 4200, 250)):
        formant = generator.uniform(low, high)
        response = response / (1 - (hertz / formant) ** 2 + 1j * hertz * width / formant**2)
    wave = np.fft.irfft(np.fft.rfft(pulses) * response * hertz, len(pitch))
    return wave / (np.abs(wave).max() + 1e-9)
