"""A clip's sound: stems played, balanced so that every fact is audible, and mixed to 10 s at 16 kHz."""

import functools
import io
import random

import numpy as np
import soundfile
import soxr

from demo_corpus.arrange import CLIP_S, Arrangement
from demo_corpus.plan import ClipPlan
from demo_corpus.sounds import SOUNDFONTS
from demo_corpus.synth import RATE, Synth

SAMPLING_RATE = 16000
SAMPLES = int(CLIP_S * SAMPLING_RATE)
STEM_DB = {"lead": 0.0, "accompaniment": -6.0, "bass": -3.0, "drums": -1.0}
STEM_JITTER_DB = 1.0
LOUDNESS_DB = -20.0  # of the whole clip, root mean square
PEAK = 0.95
ROOM_S, ROOM_WET = 0.8, 0.12
OPUS_COMPRESSION = 0.974  # soundfile's scale; about 15 kbit/s


def render(plan: ClipPlan, arrangement: Arrangement) -> np.ndarray:
    """The clip as (160000,) float32 in [-1, 1]."""
    rng = random.Random(f"{plan.seed}/mix")
    start = round(arrangement.offset_s * SAMPLING_RATE)
    end_s = arrangement.offset_s + CLIP_S + 0.1
    mix = np.zeros(SAMPLES, np.float32)
    for name, track in arrangement.stems.items():
        sound = _synth(plan.soundfont).play(track, arrangement.beats_per_minute, end_s)
        sound = soxr.resample(sound, RATE, SAMPLING_RATE)[start : start + SAMPLES]
        level = STEM_DB[name] + rng.uniform(-STEM_JITTER_DB, STEM_JITTER_DB)
        mix += sound * _gain(sound, level)
    return _finish(mix)


def encode(samples: np.ndarray) -> bytes:
    """Ogg/Opus bytes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLING_RATE, format="OGG", subtype="OPUS", compression_level=OPUS_COMPRESSION)
    return buffer.getvalue()


@functools.cache
def _synth(soundfont: str) -> Synth:
    return Synth(SOUNDFONTS[soundfont])


def _gain(sound: np.ndarray, level_db: float) -> float:
    """What brings the sounding part of a stem (frames of 50 ms within 30 dB of its loudest) to a level."""
    power = (sound[: len(sound) // 800 * 800].reshape(-1, 800) ** 2).mean(axis=1)
    if power.max() <= 0:
        raise ValueError("a stem of the line-up is silent within the clip")
    sounding = power[power > power.max() / 1000].mean()
    return 10 ** (level_db / 20) / np.sqrt(sounding)


def _finish(mix: np.ndarray) -> np.ndarray:
    """A little room, then the loudness of the corpus."""
    size = len(mix) * 2
    room = np.fft.irfft(np.fft.rfft(mix, size) * np.fft.rfft(_room(), size), size)[: len(mix)]
    wet = mix + ROOM_WET * np.sqrt(np.mean(mix**2) / np.mean(room**2)) * room
    wet *= 10 ** (LOUDNESS_DB / 20) / np.sqrt(np.mean(wet**2))
    return (PEAK * np.tanh(wet / PEAK)).astype(np.float32)


@functools.cache
def _room() -> np.ndarray:
    time = np.arange(int(ROOM_S * SAMPLING_RATE)) / SAMPLING_RATE
    return np.random.default_rng(7).standard_normal(len(time)) * np.exp(-6.9 * time / ROOM_S)
