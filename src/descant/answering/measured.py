"""What signal processing knows better than a language model: tempo, key, loudness, silence (extra `[measure]`)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np

from descant.data.audio import AudioError, stream_audio
from descant.data.sound_file import LEAST_S
from descant.data.storage import Source

RATE = 22_050  # Hz
MEASURED_S = 600  # at most, from a track's beginning
PIECE_S = 60  # measured at a time: spectra of ten minutes are hundreds of MB
GATE_LUFS, GATE_LU = -70.0, 10.0  # pieces that are softer, or so much softer than the others, do not count
FRAME_S, SILENCE_DBFS = 0.05, -60.0
NAMES = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
# How well each pitch class fits a key, from listeners' judgements (Krumhansl and Kessler 1982), tonic first.
PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


def measure(path: Source) -> dict[str, Any] | None:
    """Measure tempo, key, loudness and silence of the first ten minutes of a file; None without the extra `[measure]`.

    Returns `bpm`, `key`, `loudness_lufs` and `silence_share`, each with `value` (None where it cannot be said) and
    `confidence` (None where the library gives none), and `measured_s`. Of silence there is no value but its share.
    Raises AudioError.
    """
    if find_spec("librosa") is None or find_spec("pyloudnorm") is None:
        return None
    try:
        pieces = [measure_piece(piece) for piece in read_beginning(path)]
    except AudioError as error:
        if error.silent_s is None:
            raise
        silent_s = min(error.silent_s, MEASURED_S)
        unknown = {"value": None, "confidence": None}
        nothing = dict.fromkeys(("bpm", "key", "loudness_lufs"), unknown)
        return nothing | {"silence_share": {"value": 1.0, "confidence": None}, "measured_s": round(silent_s, 3)}
    return {
        "bpm": pool_tempo(pieces),
        "key": find_key(np.sum([piece.chroma for piece in pieces], axis=0)),
        "loudness_lufs": {"value": pool_loudness(pieces), "confidence": None},
        "silence_share": {"value": share_silence(pieces), "confidence": None},
        "measured_s": round(sum(piece.seconds for piece in pieces), 3),
    }


@dataclass(frozen=True)
class Piece:
    """What is measured of a piece of a track: beats a minute, the distances of its beats in frames, the sum of pitch
    classes over frames (12,), LUFS (-inf for silence), how many of its stretches of 50 ms are silent, of how many.
    """

    seconds: float
    bpm: float
    distances: list[int]
    chroma: np.ndarray
    loudness: float
    silent: int
    stretches: int


def read_beginning(path: Source) -> Iterator[np.ndarray]:
    """Yield the first ten minutes of a file as mono waveforms (samples,) of 60 s; the last one may be shorter."""
    size, read = PIECE_S * RATE, 0
    waiting = np.zeros(0, np.float32)
    for block in stream_audio(path, RATE):
        waiting = np.concatenate([waiting, block])
        while len(waiting) >= size and read < MEASURED_S * RATE:
            yield waiting[:size]
            waiting, read = waiting[size:], read + size
        if read >= MEASURED_S * RATE:
            return
    if len(waiting) >= LEAST_S * RATE or (read == 0 and len(waiting)):
        yield waiting


def measure_piece(waveform: np.ndarray) -> Piece:
    """Measure a mono waveform (samples,) of 60 s at most."""
    import librosa
    import pyloudnorm

    size = round(FRAME_S * RATE)
    frames = waveform[: max(1, len(waveform) // size) * size].reshape(-1, min(size, len(waveform)))
    levels = np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=1))
    tempo, beats = librosa.beat.beat_track(y=waveform, sr=RATE)
    return Piece(
        seconds=len(waveform) / RATE,
        bpm=float(np.atleast_1d(tempo)[0]),
        distances=[int(later - earlier) for earlier, later in pairwise(beats)],
        chroma=librosa.feature.chroma_stft(y=waveform, sr=RATE).sum(axis=1),
        loudness=float(pyloudnorm.Meter(RATE).integrated_loudness(waveform.astype(np.float64))),
        silent=int(np.sum(levels < 10 ** (SILENCE_DBFS / 20))),
        stretches=len(levels),
    )


def pool_tempo(pieces: Sequence[Piece]) -> dict[str, Any]:
    """Return beats a minute, the median of the pieces with beats, and as confidence how even all their beats are: 1
    less the spread of their distances.
    """
    distances = [distance for piece in pieces for distance in piece.distances]
    if len(distances) < 3:
        return {"value": None, "confidence": 0.0}
    tempi = sorted(piece.bpm for piece in pieces if piece.distances)
    spread = float(np.std(distances) / np.mean(distances))
    return {"value": round(tempi[len(tempi) // 2], 1), "confidence": round(max(0.0, 1 - spread), 3)}


def find_key(chroma: np.ndarray) -> dict[str, Any]:
    """Return the key whose profile fits pitch classes (12,) best, and how far it leads the next (correlations)."""
    if chroma.std() < 1e-6 * max(1.0, chroma.mean()):
        return {"value": None, "confidence": 0.0}
    fits = {
        f"{NAMES[tonic]} {mode}": float(np.corrcoef(np.roll(profile, tonic), chroma)[0, 1])
        for mode, profile in PROFILES.items()
        for tonic in range(12)
    }
    (best, first), (_, second) = sorted(fits.items(), key=lambda pair: -pair[1])[:2]
    return {"value": best, "confidence": round(first - second, 3)}


def pool_loudness(pieces: Sequence[Piece]) -> float | None:
    """Return the loudness in LUFS: the integrated loudness (ITU-R BS.1770) of a piece; of several, the mean of their
    energies over time, gated as the standard gates its blocks. None for silence.
    """
    loud = [piece for piece in pieces if piece.loudness > GATE_LUFS]
    if not loud:
        return None
    level = mean_energy(loud)
    return round(mean_energy([piece for piece in loud if piece.loudness > level - GATE_LU]), 2)


def mean_energy(pieces: Sequence[Piece]) -> float:
    """Return the mean loudness of pieces in LUFS, by energy, each as long as it lasts."""
    energies, seconds = [10 ** (piece.loudness / 10) for piece in pieces], [piece.seconds for piece in pieces]
    return float(10 * np.log10(np.average(energies, weights=seconds)))


def share_silence(pieces: Sequence[Piece]) -> float:
    """Return the share of stretches of 50 ms that lie under -60 dBFS."""
    return round(sum(piece.silent for piece in pieces) / sum(piece.stretches for piece in pieces), 4)
