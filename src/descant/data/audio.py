"""Sound files of any format, rate, length and channel count, read as mono waveforms and windows of 10 seconds."""

import math
import os
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soundfile
import soxr

if TYPE_CHECKING:
    import av


WEBM_MAGIC = b"\x1a\x45\xdf\xa3"
# A playlist named .m4a would make FFmpeg read the files that it names, so only these two demuxers may open anything,
# and only the bytes handed over are read.
SAFE_OPENING = {"format_whitelist": "mov,matroska", "protocol_whitelist": "file"}
UNREADABLE = "is not sound that can be read, or is damaged"
TOLERANCE_S = 0.25  # encoders' padding at both ends


def is_mp4_or_webm(path: str | Path) -> bool:
    """Looks at the first bytes, not at the name."""
    with open(path, "rb") as file:
        head = file.read(12)
    return head[:4] == WEBM_MAGIC or head[4:8] == b"ftyp"


def read_mp4_or_webm(path: str | Path) -> Iterator[tuple[np.ndarray, int]]:
    """Yields (mono float32 block, Hz); raises ImportError without PyAV, ValueError with the reason for a bad file."""
    import av

    try:
        with open(path, "rb") as file, av.open(file, options=SAFE_OPENING) as container:
            yield from _decode(container)
    except av.FFmpegError as error:
        raise ValueError(UNREADABLE) from error


def _decode(container: "av.container.InputContainer") -> Iterator[tuple[np.ndarray, int]]:
    from av import AudioResampler

    if not container.streams.audio:
        raise ValueError("holds no sound")
    to_float, seconds = AudioResampler(format="fltp"), 0.0
    for frame in container.decode(audio=0):
        for part in to_float.resample(frame):
            seconds += part.samples / part.sample_rate
            yield part.to_ndarray().mean(axis=0, dtype=np.float32), part.sample_rate
    promised = _promised_s(container)
    if seconds + TOLERANCE_S < promised:
        raise ValueError(f"is cut short: {seconds:.1f} of {promised:.1f} s; get the whole file again")


def _promised_s(container: "av.container.InputContainer") -> float:
    stream = container.streams.audio[0]
    if stream.duration:
        return float(stream.duration * stream.time_base)
    # WebM tells the length of the whole file only, and a film may go on after its sound.
    return (container.duration or 0) / 1e6 if len(container.streams) == 1 else 0.0


STREAMED = 0x7FFF_0000  # lengths from here on mean "unknown", as written by ffmpeg and sox into a pipe
SLOPPY_BYTES = 128  # some recorders count the header itself as data
MP3_FRAME_BYTES = 1441  # the longest frame: encoders disagree about counting the header's own
OGG_PAGE_BYTES = 65_307  # the longest page
OGG_LAST_PAGE = 4


def find_missing_part(path: str | Path) -> str | None:
    """Says what the file lacks, in words for an error message, or gives None where nothing is known to be missing."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            return _compare(_data_chunk(file, b"data", "<I"), size, SLOPPY_BYTES)
        if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
            return _compare(_data_chunk(file, b"SSND", ">I"), size, SLOPPY_BYTES)
        if head[:4] == b"OggS":
            return _missing_from_ogg(file, size)
        if head[:3] == b"ID3" or (head[0] == 0xFF and head[1:2] >= b"\xe0"):
            return _compare(_mp3_stream(file, head), size, MP3_FRAME_BYTES)
    return None


def _compare(promised: tuple[int, int] | None, size: int, tolerance: int) -> str | None:
    if promised is None:
        return None
    start, length = promised
    held = max(0, size - start)
    if length >= STREAMED or held + tolerance >= length:
        return None
    return f"its header promises {length} bytes of sound and {held} are there"


def _data_chunk(file: BinaryIO, name: bytes, length_format: str) -> tuple[int, int] | None:
    """(start, promised bytes) of the chunk that holds the samples."""
    return next((found for chunk, *found in _chunks(file, length_format) if chunk == name), None)


def _chunks(file: BinaryIO, length_format: str) -> Iterator[tuple[bytes, int, int]]:
    position = 12
    while True:
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            return
        length = struct.unpack(length_format, header[4:])[0]
        yield header[:4], position + 8, length
        position += 8 + length + length % 2


def _missing_from_ogg(file: BinaryIO, size: int) -> str | None:
    file.seek(max(0, size - 2 * OGG_PAGE_BYTES))
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27:
        return "its last page is broken off"
    segments = tail[page + 26]
    lengths = tail[page + 27 : page + 27 + segments]
    if len(lengths) < segments or len(tail) < page + 27 + segments + sum(lengths):
        return "its last page is broken off"
    return None if tail[page + 5] & OGG_LAST_PAGE else "its last page does not say that the stream ends"


def _mp3_stream(file: BinaryIO, head: bytes) -> tuple[int, int] | None:
    """(start, promised bytes) after the Xing/Info header in the first frame, which follows any ID3v2 tag."""
    start = 0
    if head[:3] == b"ID3":
        tag = [byte & 0x7F for byte in head[6:10]]
        start = 10 + sum(byte << shift for byte, shift in zip(tag, (21, 14, 7, 0), strict=True))
    file.seek(start)
    frame = file.read(64)
    mark = max(frame.find(b"Xing"), frame.find(b"Info"))
    if mark < 0 or len(frame) < mark + 16:
        return None
    flags, _, length = struct.unpack(">III", frame[mark + 4 : mark + 16])
    return (start, length) if flags & 3 == 3 else None  # frames and bytes are both there, in this order


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


NPY_RATE = 16_000  # Hz
PADDED_SAMPLES = 30 * NPY_RATE


def load_npy_waveform(path: str | Path, sampling_rate: int = NPY_RATE) -> np.ndarray:
    """Reads a waveform (samples,) as float32 without its padding; raises AudioError, naming file and reason."""
    try:
        waveform = np.load(path, allow_pickle=False)  # a pickle could run anything
    except (OSError, ValueError, EOFError) as error:
        raise AudioError(path, f"is no .npy array that can be read ({error})") from error
    waveform = np.squeeze(waveform)
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise AudioError(path, f"is no mono float waveform, but {waveform.dtype} of shape {waveform.shape}")
    if not np.isfinite(waveform).all():
        raise AudioError(path, "holds NaN or infinite samples")
    if len(waveform) == PADDED_SAMPLES:
        waveform = np.trim_zeros(waveform, "b")
    if len(waveform) == 0:
        raise AudioError(path, "holds no sound")
    return waveform.astype(np.float32) if sampling_rate == NPY_RATE else resample(waveform, NPY_RATE, sampling_rate)
