"""Sound that is no music: speech, noise, hum, tones, clicks, silence, and fields of wind, rain, waves and insects."""

import random
import subprocess

import numpy as np
import soxr

from music_corpus.effects import RATE, coloured_noise

SAMPLES = 10 * RATE
VOICES = ("en", "en-us", "en-gb-scotland", "de", "fr-fr", "es", "it", "pt", "pl", "nl", "sv", "ru", "tr", "el", "hu",
          "cs", "fi", "ro", "cmn", "hi")  # fmt: skip
VARIANTS = ("", "+m1", "+m3", "+m5", "+m7", "+f1", "+f2", "+f3", "+f4", "+f5", "+croak", "+whisper")
WORDS = ("river", "station", "Monday", "forty", "under", "window", "people", "seven", "because", "answer", "market",
         "never", "paper", "morning", "letter", "mountain", "between", "number", "water", "family", "always",
         "country", "table", "through", "winter", "little", "report", "question", "hundred", "doctor", "after",
         "story")  # fmt: skip


def make_other(seed: str) -> tuple[np.ndarray, str, str]:
    """Return (samples, kind, title): kind is speech, noise, silence or field."""
    rng = random.Random(f"{seed}/other")
    noise = np.random.default_rng(rng.randrange(1 << 32))
    kind = rng.choices(("speech", "noise", "field", "silence"), (45, 25, 25, 5))[0]
    if kind == "speech":
        return _speech(rng)
    maker = {"noise": _noise, "field": _field, "silence": _silence}[kind]
    sound, title = maker(rng, noise)
    return sound.astype(np.float32), kind, title


def _speech(rng: random.Random) -> tuple[np.ndarray, str, str]:
    voice = rng.choice(VOICES) + rng.choice(VARIANTS)
    text = ". ".join(" ".join(rng.choices(WORDS, k=rng.randint(4, 11))) for _ in range(9))
    speed, pitch = str(rng.randint(110, 230)), str(rng.randint(20, 80))
    command = ["espeak-ng", "-v", voice, "-s", speed, "-p", pitch, "--stdout", text]
    wave = subprocess.run(command, capture_output=True, check=True).stdout
    spoken = np.frombuffer(wave[44 : 44 + (len(wave) - 44) // 2 * 2], "<i2").astype(np.float32) / 32768
    spoken = soxr.resample(spoken, 22050, RATE)[:SAMPLES]
    return np.pad(spoken, (0, SAMPLES - len(spoken))), "speech", f"speech ({voice})"


def _noise(rng: random.Random, noise: np.random.Generator) -> tuple[np.ndarray, str]:
    time = np.arange(SAMPLES) / RATE
    kind = rng.choice(("white noise", "pink noise", "brown noise", "hum", "tone", "clicks", "static"))
    if kind.endswith(" noise"):
        return coloured_noise(SAMPLES, {"white": 0, "pink": 0.5, "brown": 1}[kind.split()[0]], noise), kind
    if kind == "hum":
        base = rng.choice((50, 60))
        waves = [np.sin(2 * np.pi * base * step * time) / step for step in range(1, rng.randint(3, 9))]
        return sum(waves) + 0.05 * noise.standard_normal(SAMPLES), kind
    if kind == "tone":
        return np.sin(2 * np.pi * rng.uniform(100, 4000) * time) + 0.003 * noise.standard_normal(SAMPLES), kind
    sparse = noise.random(SAMPLES) < (rng.uniform(0.5, 5) if kind == "clicks" else rng.uniform(50, 400)) / RATE
    pops = _filtered(sparse * noise.standard_normal(SAMPLES), np.exp(-np.arange(200) / rng.uniform(3, 40)))
    return pops + 0.001 * noise.standard_normal(SAMPLES), kind


def _field(rng: random.Random, noise: np.random.Generator) -> tuple[np.ndarray, str]:
    time = np.arange(SAMPLES) / RATE
    kind = rng.choice(("wind", "rain", "waves", "insects", "engine", "birds", "steps"))
    bed = coloured_noise(SAMPLES, rng.uniform(0.5, 1), noise)
    if kind == "wind":
        return _band(bed, rng.uniform(80, 300), rng.uniform(400, 1500)) * _gusts(noise, 0.3), kind
    if kind == "rain":
        drops = (noise.random(SAMPLES) < rng.uniform(100, 900) / RATE) * noise.standard_normal(SAMPLES)
        return _filtered(drops, np.exp(-np.arange(60) / 8)) + 0.2 * coloured_noise(SAMPLES, 0.2, noise), kind
    if kind == "waves":
        return bed * (0.1 + np.sin(np.pi * rng.uniform(0.08, 0.2) * time + rng.random()) ** 4), kind
    if kind == "insects":
        chirp = np.sin(2 * np.pi * rng.uniform(2500, 6000) * time)
        chirp *= np.sin(2 * np.pi * rng.uniform(15, 40) * time) > 0
        return chirp * (np.sin(2 * np.pi * rng.uniform(0.5, 3) * time) > rng.uniform(-1, 0.3)) + 0.2 * bed, kind
    if kind == "engine":
        pulse = np.cumsum(rng.uniform(20, 70) * (1 + 0.1 * _gusts(noise, 0.5))) / RATE
        return sum(np.sin(2 * np.pi * step * pulse + step) / step**0.7 for step in range(1, 12)) + 0.5 * bed, kind
    if kind == "birds":
        return _birds(rng, time) + 0.05 * bed, kind
    beats = np.zeros(SAMPLES)
    beats[[int(step * RATE * rng.uniform(0.45, 0.7)) % SAMPLES for step in range(16)]] = 1
    return _filtered(beats, noise.standard_normal(1600) * np.exp(-np.arange(1600) / 300)) + 0.03 * bed, kind


def _birds(rng: random.Random, time: np.ndarray) -> np.ndarray:
    """Short whistles that glide, each a few times at irregular moments."""
    sound = np.zeros(SAMPLES)
    for _ in range(rng.randint(2, 4)):
        length, base, glide = rng.uniform(0.06, 0.4), rng.uniform(1800, 5000), rng.uniform(-2500, 2500)
        part = time[: int(length * RATE)]
        warble = rng.uniform(0, 400) * np.sin(2 * np.pi * rng.uniform(10, 40) * part)
        pitch = base + glide * part / length + warble
        call = np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * np.sin(np.pi * part / length)
        for _ in range(rng.randint(2, 12)):
            start = rng.randrange(SAMPLES - len(call))
            sound[start : start + len(call)] += call * rng.uniform(0.2, 1)
    return sound


def _silence(rng: random.Random, noise: np.random.Generator) -> tuple[np.ndarray, str]:
    level = rng.choice((0.0, 1e-5, 1e-4, 5e-4))
    return level * noise.standard_normal(SAMPLES), "silence"


def _gusts(noise: np.random.Generator, period_s: float) -> np.ndarray:
    points = noise.random(int(10 / period_s) + 2)
    return np.interp(np.arange(SAMPLES) / RATE, np.arange(len(points)) * period_s, points)


def _band(sound: np.ndarray, low: float, high: float) -> np.ndarray:
    frequencies = np.fft.rfftfreq(len(sound), 1 / RATE)
    gain = 1 / (1 + (low / np.maximum(frequencies, 1)) ** 4) / (1 + (frequencies / high) ** 4)
    return np.fft.irfft(np.fft.rfft(sound) * gain, len(sound))


def _filtered(sound: np.ndarray, response: np.ndarray) -> np.ndarray:
    size = 1 << (len(sound) + len(response)).bit_length()
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size)[: len(sound)]
