"""A folder of recordings: which files it holds, and how each is heard."""

import logging
from collections.abc import Collection
from pathlib import Path

from descant.data.audio import Window, stream_windows, windows
from descant.data.clip_audio import AUDIO_SUFFIXES
from descant.data.npy_waveform import load_npy_waveform
from descant.inference.listener import Recording

log = logging.getLogger(__name__)


def find_recordings(folder: Path) -> list[Recording]:
    """All sound files and `.npy` waveforms in a folder and below, by name; raises ValueError where there are none.

    Their answers are kept under the path relative to the folder, so that the folder may move.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder of recordings")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    found = [path for path in files if path.suffix.lower() in (*AUDIO_SUFFIXES, ".npy")]
    if not found:
        raise ValueError(f"{folder}: holds no file named {', '.join(AUDIO_SUFFIXES)} or .npy")
    others = [path.name for path in files if path not in set(found)]
    if others:
        log.warning("%s: %d files are no recordings by their name: %s …", folder, len(others), ", ".join(others[:3]))
    return [Recording(path, path.relative_to(folder).as_posix()) for path in found]


def read_windows(path: Path, sampling_rate: int, window_s: float) -> Collection[Window]:
    """The windows of a sound file or a `.npy` waveform; raises AudioError."""
    if path.suffix.lower() == ".npy":
        return windows(load_npy_waveform(path, sampling_rate), sampling_rate, window_s)
    return stream_windows(path, sampling_rate, window_s)
