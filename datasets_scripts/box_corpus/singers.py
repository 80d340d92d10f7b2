"""Synthetic singers over renderings: each word of espeak-ng on a note of its own, with the singer's sex known.

The ears, which have heard real singers, take these for some (their tags of singing rise from under 0.05 to 0.25), so
that what the model learns of voices from them holds for voices.
"""

import io
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from descant.data.audio import load_audio

sys.path.insert(0, str(Path(__file__).parents[1]))
from demo_corpus.lyric_words import TOPICS  # noqa: E402

RATE, SECONDS = 16_000, 10.0
SEMITONES = (0, 2, 4, 5, 7, 9, 11, 12)
VOICES = {"female": ("f1", "f2", "f3", "f4", "f5"), "male": ("m1", "m2", "m3", "m4", "m5", "m6", "m7")}
ALONE = 1 / 6  # singers without the rendering
BASES = {"female": (0.85, 1.3), "male": (0.6, 1.0)}  # of espeak's own pitch
WORDS = sorted({word for topic in TOPICS.values() for part in (topic.things, topic.acts, topic.places)
                for phrase in part for word in phrase.split()})  # fmt: skip
LANGUAGES = ("en", "en-us", "de", "es", "it", "fr", "la")


def sing_over(renderings: Sequence[dict[str, Any]], folder: Path, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Write each rendering with a singer over it to `folder` as FLAC; yield its record, in the columns of facts.jsonl.

    renderings: records with `clip_id`, `path`, `split` and what is known of the music.
    """
    for record in renderings:
        rng = random.Random(f"{seed}/{record['clip_id']}")
        sex, is_alone = rng.choice(("female", "male")), rng.random() < ALONE
        music, voice = load_audio(record["path"], RATE)[: round(SECONDS * RATE)], sing(sex, rng)
        mixed = mix(reverberate(voice, rng), music, rng.uniform(0.6, 1.8)) if not is_alone else voice
        name = f"sung-{record['clip_id']}"
        soundfile.write(folder / f"{name}.flac", mixed, RATE)
        alone = {"instruments": None, "drums": False, "bass": "no bass", "mood": None, "metre": None,
                 "tempo_class": None}  # fmt: skip
        yield record | {
            "clip_id": name, "file": f"{name}.flac", "vocals": True, "voice": sex, "lead_instrument": None,
            **(alone if is_alone else {}),
        }  # fmt: skip


def sing(sex: str, rng: random.Random) -> np.ndarray:
    """Return ten seconds of words that are sung to notes of a scale, at 16 kHz."""
    voice = f"{rng.choice(LANGUAGES)}+{rng.choice(VOICES[sex])}"
    base, rate, size = rng.uniform(*BASES[sex]), rng.choice((45, 55, 70)), round(SECONDS * RATE)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < size:
        pitch = round(100 * base * 2 ** (rng.choice(SEMITONES) / 12))
        note = f'<prosody pitch="{pitch}%" range="0%" rate="{rate}%">{rng.choice(WORDS)}</prosody>'
        parts.append(speak(voice, note))
        parts.append(np.zeros(round(rng.choice((0.0, 0.0, 0.1, 0.5)) * RATE), np.float32))
    return np.concatenate(parts)[:size]


def speak(voice: str, text: str) -> np.ndarray:
    """Return a text as espeak-ng says it, without the silence around it, at 16 kHz."""
    command = ["espeak-ng", "-v", voice, "-m", "--stdout", f"<speak>{text}</speak>"]
    samples, rate = soundfile.read(io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout),
                                   dtype="float32")  # fmt: skip
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    samples = samples[loud[0] : loud[-1] + 1] if len(loud) else samples
    return soxr.resample(samples, rate, RATE).astype(np.float32)


def reverberate(voice: np.ndarray, rng: random.Random) -> np.ndarray:
    """Put a voice into a room, or leave it dry."""
    seconds = rng.choice((0.0, 0.4, 1.0))
    if not seconds:
        return voice
    time = np.arange(round(seconds * RATE)) / RATE
    tail = np.random.default_rng(rng.getrandbits(32)).standard_normal(len(time)) * np.exp(-6 * time / seconds)
    size = len(voice) + len(tail)
    wet = np.fft.irfft(np.fft.rfft(voice, size) * np.fft.rfft(tail, size), size)[: len(voice)]
    return (voice + rng.uniform(0.1, 0.5) * wet * voice.std() / (wet.std() + 1e-9)).astype(np.float32)


def mix(voice: np.ndarray, music: np.ndarray, gain: float) -> np.ndarray:
    """Add a voice to music of the same level, times a gain."""
    size = min(len(voice), len(music))
    parts = [one[:size] / (np.sqrt(np.square(one).mean()) + 1e-9) for one in (voice, music)]
    both = gain * parts[0] + parts[1]
    return (0.8 * both / np.abs(both).max()).astype(np.float32)
