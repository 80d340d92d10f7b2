"""What signal processing knows better than a language model: tempo, key, loudness, silence (extra `[measure]`)."""

from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from descant.data.audio import AudioError, stream_audio

RATE = 22_050  # Hz
MEASURED_S = 600  # at most, from a track's beginning: memory does not grow with its length
FRAME_S, SILENCE_DBFS = 0.05, -60.0
NAMES = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
# How well each pitch class fits a key, from listeners' judgements (Krumhansl and Kessler 1982), tonic first.
PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


def measure(path: str | Path) -> dict[str, Any] | None:
    """Measure tempo, key, loudness and silence of the first ten minutes of a file; None without the extra `[measure]`.

    Returns `bpm`, `key`, `loudness_lufs` and `silence_share`, each with `value` (None where it cannot be said) and
    `confidence` (None where the library gives none), and `measured_s`. Of silence there is no value but its share.
    Raises AudioError.
    """
    if find_spec("librosa") is None or find_spec("pyloudnorm") is None:
        return None
    try:
        waveform = read_beginning(path)
    except AudioError as error:
        if error.silent_s is None:
            raise
        silent_s = min(error.silent_s, MEASURED_S)
        unknown = {"value": None, "confidence": None}
        nothing = dict.fromkeys(("bpm", "key", "loudness_lufs"), unknown)
        return nothing | {"silence_share": {"value": 1.0, "confidence": None}, "measured_s": round(silent_s, 3)}
    return {
        "bpm": measure_tempo(waveform),
        "key": measure_key(waveform),
        "loudness_lufs": {"value": measure_loudness(waveform), "confidence": None},
        "silence_share": {"value": measure_silence(waveform), "confidence": None},
        "measured_s": round(len(waveform) / RATE, 3),
    }


def read_beginning(path: str | Path) -> np.ndarray:
    """Return the first ten minutes of a file as a mono waveform (samples,)."""
    blocks, samples = [], 0
    for block in stream_audio(path, RATE):
        blocks.append(block)
        samples += len(block)
        if samples >= MEASURED_S * RATE:
            break
    return np.concatenate(blocks)[: MEASURED_S * RATE]


def measure_tempo(waveform: np.ndarray) -> dict[str, Any]:
    """Return beats a minute, and as confidence how even the beats are: 1 less the spread of their distances."""
    import librosa

    tempo, beats = librosa.beat.beat_track(y=waveform, sr=RATE)
    distances = [later - earlier for earlier, later in pairwise(beats)]
    if len(distances) < 3:
        return {"value": None, "confidence": 0.0}
    spread = float(np.std(distances) / np.mean(distances))
    return {"value": round(float(np.atleast_1d(tempo)[0]), 1), "confidence": round(max(0.0, 1 - spread), 3)}


def measure_key(waveform: np.ndarray) -> dict[str, Any]:
    """Return the key whose profile fits the pitch classes best, and how far it is ahead of the next (correlations)."""
    import librosa

    chroma = librosa.feature.chroma_stft(y=waveform, sr=RATE).mean(axis=1)  # (12,)
    if chroma.std() < 1e-6:
        return {"value": None, "confidence": 0.0}
    fits = {
        f"{NAMES[tonic]} {mode}": float(np.corrcoef(np.roll(profile, tonic), chroma)[0, 1])
        for mode, profile in PROFILES.items()
        for tonic in range(12)
    }
    (best, first), (_, second) = sorted(fits.items(), key=lambda pair: -pair[1])[:2]
    return {"value": best, "confidence": round(first - second, 3)}


def measure_loudness(waveform: np.ndarray) -> float | None:
    """Return the integrated loudness in LUFS (ITU-R BS.1770); None for silence."""
    import pyloudnorm

    loudness = pyloudnorm.Meter(RATE).integrated_loudness(waveform.astype(np.float64))
    return round(float(loudness), 2) if np.isfinite(loudness) else None


def measure_silence(waveform: np.ndarray) -> float:
    """Return the share of stretches of 50 ms that lie under -60 dBFS."""
    size = round(FRAME_S * RATE)
    frames = waveform[: max(1, len(waveform) // size) * size].reshape(-1, min(size, len(waveform)))
    levels = np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=1))
    return round(float(np.mean(levels < 10 ** (SILENCE_DBFS / 20))), 4)
