"""Sound files of any format, rate, length and channel count, read as mono waveforms and windows of 10 seconds."""

import math
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import soundfile
import soxr

from .mp4_webm import UNREADABLE, is_mp4_or_webm, read_mp4_or_webm
from .truncated_audio import find_missing_part

SAMPLING_RATE = 16_000  # Hz, what the published checkpoints were trained on
WINDOW_S = 10.0
BLOCK_SAMPLES = 2**20  # read at a time, over all channels: 4 MiB, however long the file is
UNKNOWN_FRAMES = 2**62  # libsndfile's count for a stream that does not tell its length is near 2**63


class AudioError(ValueError):
    """A sound file that cannot be used: `path` names it, `reason` says what is wrong and what to do."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = str(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class Window:
    """A piece of a recording: where it lies (seconds) and its mono samples, fewer than a whole window at the end."""

    start_s: float
    end_s: float
    samples: np.ndarray  # (samples,) float32


@dataclass(frozen=True)
class WindowStream:
    """The windows of a sound file that has been checked, read one by one whenever they are iterated over."""

    path: str | Path
    sampling_rate: int
    window_s: float
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Window]:
        return _cut(stream_audio(self.path, self.sampling_rate), self.sampling_rate, self.window_s)


def load_audio(path: str | Path, sampling_rate: int = SAMPLING_RATE) -> np.ndarray:
    """Reads a whole sound file as a mono float32 waveform (samples,); raises AudioError, naming file and reason."""
    return np.concatenate(list(stream_audio(path, sampling_rate)))


def stream_audio(path: str | Path, sampling_rate: int = SAMPLING_RATE) -> Iterator[np.ndarray]:
    """Yields a file's mono float32 waveform block by block: memory does not grow with the file's length.

    What is wrong with a file's content may show at its end only: check_audio tells before the first block is used.
    """
    yield from _resample_blocks(path, _read_mono_blocks(path), sampling_rate)


def _resample_blocks(
    path: str | Path, blocks: Iterable[tuple[np.ndarray, int]], sampling_rate: int
) -> Iterator[np.ndarray]:
    resampler, frames, yielded = None, 0, 0
    for block, rate in blocks:
        _require_finite(path, block, frames / rate)
        frames += len(block)
        resampler = resampler or soxr.ResampleStream(rate, sampling_rate, 1, dtype="float32")
        resampled = resampler.resample_chunk(block)
        yielded += len(resampled)
        yield resampled
    tail = resampler.resample_chunk(np.zeros(0, np.float32), last=True) if resampler else np.zeros(0, np.float32)
    if yielded + len(tail) == 0:
        raise AudioError(path, "holds no samples")
    yield tail


def check_audio(path: str | Path) -> float:
    """Reads a file through once, to its end; gives its length in seconds, or raises AudioError if any of it is bad."""
    return _check_blocks(path, _read_mono_blocks(path))


def _check_blocks(path: str | Path, blocks: Iterable[tuple[np.ndarray, int]]) -> float:
    frames, rate = 0, 1
    for block, rate in blocks:
        _require_finite(path, block, frames / rate)
        frames += len(block)
    if frames == 0:
        raise AudioError(path, "holds no samples")
    return frames / rate


def resample(waveform: np.ndarray, orig: int, target: int = SAMPLING_RATE) -> np.ndarray:
    """Resamples a (samples,) or (samples, channels) waveform from `orig` to `target` Hz."""
    return soxr.resample(np.asarray(waveform, dtype=np.float32), orig, target)


def windows(waveform: np.ndarray, sampling_rate: int = SAMPLING_RATE, window_s: float = WINDOW_S) -> list[Window]:
    """Cuts a mono waveform into windows of `window_s` seconds; the last, shorter one is included."""
    return list(_cut(iter([np.asarray(waveform, dtype=np.float32)]), sampling_rate, window_s))


def stream_windows(
    path: str | Path, sampling_rate: int = SAMPLING_RATE, window_s: float = WINDOW_S
) -> Collection[Window]:
    """Checks a file to its end, so that one with a bad end gives no window at all, and streams its windows.

    A file of one block is decoded once, for its check, and kept.
    """
    blocks = _read_mono_blocks(path)
    beginning = list(islice(blocks, 2))
    if len(beginning) < 2:
        return list(_cut(_resample_blocks(path, beginning, sampling_rate), sampling_rate, window_s))
    samples = round(_check_blocks(path, chain(beginning, blocks)) * sampling_rate)
    return WindowStream(path, sampling_rate, window_s, math.ceil(samples / round(window_s * sampling_rate)))


def format_stamp(start_s: float, end_s: float) -> str:
    """`0:10–0:20`, `59:50–1:00:00`: minutes and seconds, hours where needed, decimals only where they are."""
    return f"{_format_time(start_s)}–{_format_time(end_s)}"


def _format_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds * 100), 6000)  # in hundredths, so that 59.999 s is 1:00 and not 0:60
    hours, minutes = divmod(minutes, 60)
    text = f"{rest // 100:02d}" + f".{rest % 100:02d}".rstrip("0").rstrip(".")
    return f"{hours}:{minutes:02d}:{text}" if hours else f"{minutes}:{text}"


def _cut(blocks: Iterator[np.ndarray], sampling_rate: int, window_s: float) -> Iterator[Window]:
    size = round(window_s * sampling_rate)
    waiting, start = np.zeros(0, np.float32), 0
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        while len(waiting) >= size:
            yield _window(waiting[:size].copy(), start, sampling_rate)
            waiting, start = waiting[size:], start + size
    if len(waiting):
        yield _window(waiting, start, sampling_rate)


def _window(samples: np.ndarray, start: int, sampling_rate: int) -> Window:
    return Window(start / sampling_rate, (start + len(samples)) / sampling_rate, samples)


def _require_finite(path: str | Path, block: np.ndarray, start_s: float) -> None:
    # A single NaN becomes a thousand in the resampler and silences the whole answer, so it is refused before.
    if not np.isfinite(block).all():
        raise AudioError(path, f"holds NaN or infinite samples (in the second after {math.floor(start_s)} s)")


def _read_mono_blocks(path: str | Path) -> Iterator[tuple[np.ndarray, int]]:
    """Yields (mono block, Hz) of a file in its own rate; every kind of failure becomes an AudioError."""
    try:
        wrong = _find_fault(Path(path))
        read = _read_with_av if not wrong and is_mp4_or_webm(path) else _read_with_soundfile
    except (OSError, ValueError) as error:  # permissions; a NUL in the name
        raise AudioError(path, f"cannot be opened ({error})") from error
    if wrong:
        raise AudioError(path, wrong)
    yield from read(path)


def _find_fault(path: Path) -> str | None:
    if path.is_dir():
        return "is a directory: give the files in it"
    if not path.exists():
        return "does not exist"
    if not path.is_file():
        return "is not a regular file"
    if path.stat().st_size == 0:
        return "is empty (0 bytes)"
    missing = find_missing_part(path)
    return f"is cut short: {missing}; get the whole file again" if missing else None


def _read_with_soundfile(path: str | Path) -> Iterator[tuple[np.ndarray, int]]:
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:  # a name need not be text
            count = 0
            for block in file.blocks(max(1, BLOCK_SAMPLES // file.channels), dtype="float32", always_2d=True):
                count += len(block)
                yield block.mean(axis=1), file.samplerate
            # The count of an MP3 is an estimate where it has no Info header, and find_missing_part has read that.
            if count < file.frames < UNKNOWN_FRAMES and file.format not in ("MP3", "MPEG"):
                raise AudioError(path, f"is cut short: {count} of {file.frames} frames; get the whole file again")
    # libsndfile's own words are left out: for a bad MP3 they say that the file does not exist.
    except (soundfile.SoundFileRuntimeError, OSError, TypeError) as error:  # TypeError: headerless, named .raw
        raise AudioError(path, UNREADABLE) from error


def _read_with_av(path: str | Path) -> Iterator[tuple[np.ndarray, int]]:
    try:
        yield from read_mp4_or_webm(path)
    except ImportError as error:
        raise AudioError(path, "is MP4 or WebM, which needs PyAV: pip install av") from error
    except (OSError, ValueError) as error:
        raise AudioError(path, str(error)) from error
