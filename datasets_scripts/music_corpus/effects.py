"""What recordings go through: rooms, equalisers, narrow bands, noise, codecs and gain, drawn from a seed."""

import io
import random

import numpy as np
import soundfile

RATE = 16000
LOUDNESS_DB = (-30.0, -12.0)  # of a clip, root mean square
PEAK = 0.98


def apply_effects(sound: np.ndarray, seed: str) -> tuple[np.ndarray, list[str]]:
    """Return a clip after a seeded chain of effects, and the names of these; shape (n,) float32 in and out."""
    rng, applied = random.Random(f"{seed}/effects"), []
    noise = np.random.default_rng(rng.randrange(1 << 32))
    sound = sound / _rms(sound) * 0.1
    if rng.random() < 0.7:
        decay, wet = 10 ** rng.uniform(-0.7, 0.4), rng.uniform(0.05, 0.45)
        sound = _reverberate(sound, decay, wet, noise)
        applied.append(f"reverb {decay:.1f} s")
    curve = _equaliser(len(sound), rng, applied)
    if curve is not None:
        sound = np.fft.irfft(np.fft.rfft(sound) * curve, len(sound))
        sound = sound / _rms(sound) * 0.1
    if rng.random() < 0.15:
        drive = rng.uniform(1.5, 5)
        sound = np.tanh(drive * sound / 0.2) * 0.2 / drive
        applied.append("saturation")
    if rng.random() < 0.3:
        ratio_db = rng.uniform(15, 40)
        level = _rms(sound) * 10 ** (-ratio_db / 20)
        sound = sound + coloured_noise(len(sound), rng.choice((0.0, 0.5, 1.0)), noise) * level
        applied.append(f"noise {ratio_db:.0f} dB")
    loudness = rng.uniform(*LOUDNESS_DB)
    sound = limit(sound / _rms(sound) * 10 ** (loudness / 20))
    return _code(sound, rng, applied), applied


def coloured_noise(samples: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """Return noise of level 1 whose amplitude falls with frequency ** slope: 0 white, 0.5 pink, 1 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequencies = np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 20)
    sound = np.fft.irfft(spectrum * frequencies**-slope, samples)
    return sound / _rms(sound)


def limit(sound: np.ndarray) -> np.ndarray:
    """Return the sound softly bounded to ±1."""
    return (PEAK * np.tanh(sound / PEAK)).astype(np.float32)


def _rms(sound: np.ndarray) -> float:
    return float(np.sqrt(np.mean(sound**2))) or 1.0


def _reverberate(sound: np.ndarray, decay_s: float, wet: float, rng: np.random.Generator) -> np.ndarray:
    time = np.arange(int(min(decay_s, 2.5) * RATE)) / RATE
    room = rng.standard_normal(len(time)) * np.exp(-6.9 * time / decay_s)
    size = 1 << (len(sound) + len(room)).bit_length()
    tail = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(room, size), size)[: len(sound)]
    return sound + wet * _rms(sound) / _rms(tail) * tail


def _equaliser(samples: int, rng: random.Random, applied: list[str]) -> np.ndarray | None:
    """The amplitude curve of an equaliser and of a narrow band, or None for neither."""
    octaves = np.log2(np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 20) / 1000)
    decibels = np.zeros_like(octaves)
    if rng.random() < 0.5:
        points = [rng.uniform(-8, 8) for _ in range(6)]
        decibels += np.interp(octaves, np.linspace(-4, 3, 6), points)
        applied.append("equaliser")
    if rng.random() < 0.25:
        high, low = rng.choice(((7000, 20), (5000, 60), (4000, 100), (3400, 300), (8000, 250)))
        above, below = octaves - np.log2(high / 1000), np.log2(low / 1000) - octaves
        decibels -= 24 * np.maximum(above, 0) + 24 * np.maximum(below, 0)
        applied.append(f"band {low}-{high} Hz")
    return 10 ** (decibels / 20) if decibels.any() else None


def _code(sound: np.ndarray, rng: random.Random, applied: list[str]) -> np.ndarray:
    """The sound as a codec of low rate leaves it, in a third of the clips."""
    draw = rng.random()
    if draw < 0.12:
        kind, level = ("MP3", "MPEG_LAYER_III"), rng.uniform(0.6, 0.98)
    elif draw < 0.22:
        kind, level = ("OGG", "OPUS"), rng.uniform(0.95, 0.985)
    elif draw < 0.32:
        kind, level = ("OGG", "VORBIS"), rng.uniform(0.8, 1.0)
    else:
        return sound
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, RATE, format=kind[0], subtype=kind[1], compression_level=level)
    buffer.seek(0)
    coded = soundfile.read(buffer, dtype="float32")[0]
    applied.append(kind[1].split("_")[0].lower().replace("mpeg", "mp3"))
    return np.pad(coded[: len(sound)], (0, max(0, len(sound) - len(coded))))
