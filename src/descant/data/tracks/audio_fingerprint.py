"""A fingerprint of a recording's sound that outlives another encoding, another loudness and a shifted start.

One 32-bit word for each 32 ms: the bits say whether the difference between two neighbouring frequency bands grew since
the frame before (after Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System", 2002).
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np

from descant.data.audio import AudioError, stream_audio

SAMPLING_RATE = 8_000
SECONDS = 30.0  # of the beginning
FRAME, HOP = 2_048, 256  # samples
BITS = 32
LOWEST_HZ, HIGHEST_HZ = 250.0, 3_000.0  # what every encoding keeps


def fingerprint_files(paths: Mapping[str, Path]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Track id → fingerprint, and a sentence for each file that cannot be read. Reads on as many threads as cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(paths, pool.map(_try_fingerprint, paths.values()), strict=True))
    prints = {track_id: words for track_id, words in found.items() if not isinstance(words, str)}
    return prints, [f"{track_id}: {reason}" for track_id, reason in found.items() if isinstance(reason, str)]


def fingerprint_file(path: Path) -> np.ndarray:
    """The fingerprint of a file's first 30 seconds, (frames,) uint32; raises AudioError."""
    wanted, blocks = round(SECONDS * SAMPLING_RATE), []
    for block in stream_audio(path, SAMPLING_RATE):
        blocks.append(block)
        if sum(map(len, blocks)) >= wanted:  # an hour after that is not decoded
            break
    return fingerprint_waveform(np.concatenate(blocks)[:wanted])


def fingerprint_waveform(waveform: np.ndarray) -> np.ndarray:
    """(samples,) mono at 8 kHz → (frames,) uint32; no frames for what is shorter than two."""
    if len(waveform) < FRAME + HOP:
        return np.zeros(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float32), FRAME)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME).astype(np.float32), axis=1)) ** 2
    bands = power @ _band_filters()  # (frames, BITS + 1)
    slope = np.diff(np.log(bands + 1e-9), axis=1)
    bits = np.diff(slope, axis=0) > 0  # (frames - 1, BITS)
    return np.packbits(bits, axis=1, bitorder="little").view("<u4")[:, 0].astype(np.uint32)


@lru_cache(maxsize=1)
def _band_filters() -> np.ndarray:
    """Which bins of the spectrum each of 33 bands sums up, equally wide in pitch: (FRAME // 2 + 1, BITS + 1)."""
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, BITS + 2) * FRAME / SAMPLING_RATE
    bins = np.arange(FRAME // 2 + 1)[:, None]
    return ((bins >= edges[:-1]) & (bins < np.maximum(edges[1:], edges[:-1] + 1))).astype(np.float32)


def _try_fingerprint(path: Path) -> np.ndarray | str:
    try:
        return fingerprint_file(path)
    except AudioError as error:
        return f"{path.name} {error.reason}; it is compared with no other sound"
