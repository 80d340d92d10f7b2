"""Sound files as mono waveforms and windows of 10 seconds, however long the files are and wherever they lie."""

import logging
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
import soxr

from descant.data import sound_file
from descant.data.sound_file import (
    LEAST_S,
    Samples,
    announce_s,
    decode,
    find_parts,
    mix_down,
    open_part,
    read_blocks,
    require_finite,
)
from descant.data.sound_file import (
    AudioError as AudioError,
)
from descant.data.sources import open_sound, suffix_of
from descant.data.storage import OpenFile, Source, State, name_source

log = logging.getLogger(__name__)

Item = TypeVar("Item")

SAMPLING_RATE = 16_000  # Hz, what the published checkpoints were trained on
WINDOW_S = 10.0
LEAST_OF_TRACK_S = 5.0  # a last window that is shorter is heard as the last 10 s of its track
MARGIN_S = 1  # decoded around a window that is resampled alone: a resampler looks to both sides
NPY, PADDED_S = ".npy", 30  # the reference's waveforms, and the seconds to which zeros fill them up
CHANGED = "changed while it was read; read it again when nothing writes to it"


@dataclass(frozen=True)
class Window:
    """A piece of a recording: where it lies (seconds) and its mono samples, fewer than a whole window at the end."""

    start_s: float
    end_s: float
    samples: np.ndarray  # (samples,) float32

    @property
    def silence(self) -> str | None:
        """Say how silent it is where nothing can be heard in it (under -60 dBFS); else None."""
        try:
            sound_file.require_sound("", math.inf, sound_file.measure_level(self.samples))
        except AudioError as error:
            return error.reason
        return None


# Waveforms


def load_audio(path: Source, sampling_rate: int = SAMPLING_RATE) -> np.ndarray:
    """Read a whole sound file as a mono float32 waveform (samples,); raises AudioError, naming file and reason."""
    return np.concatenate(list(stream_audio(path, sampling_rate)))


def stream_audio(path: Source, sampling_rate: int = SAMPLING_RATE) -> Iterator[np.ndarray]:
    """Yield a file's mono float32 waveform block by block: memory does not grow with the file's length.

    What is wrong with a long file may show at its end only: stream_windows reads it through first.
    """
    yield from _resample_blocks(_read_mono_blocks(path), sampling_rate)


def resample(waveform: np.ndarray, orig: int, target: int = SAMPLING_RATE) -> np.ndarray:
    """Resample a (samples,) or (samples, channels) waveform from `orig` to `target` Hz."""
    return soxr.resample(np.asarray(waveform, dtype=np.float32), orig, target)


def require_sound(name: str, waveform: np.ndarray, sampling_rate: int) -> None:
    """Raise AudioError for a mono waveform (samples,) in which nothing can be heard: under 0.5 s or -60 dBFS."""
    sound_file.require_sound(name, len(waveform) / sampling_rate, sound_file.measure_level(waveform))


def _read_npy(sound: OpenFile, name: str) -> np.ndarray:
    """Read one of the reference's `.npy` clips, a mono float waveform at 16 kHz padded to 30 s, without its padding.

    Returns float32 (samples,); raises AudioError.
    """
    try:
        waveform = np.load(sound.file, allow_pickle=False)  # a pickle could run anything
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise AudioError(name, f"is no .npy array that can be read ({error})") from error
    waveform = np.squeeze(waveform)
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise AudioError(name, f"is no mono float waveform, but {waveform.dtype} of shape {waveform.shape}")
    waveform = np.trim_zeros(waveform, "b") if len(waveform) == PADDED_S * SAMPLING_RATE else waveform
    require_finite(name, waveform[None], SAMPLING_RATE)
    waveform = waveform.astype(np.float32)
    require_sound(name, waveform, SAMPLING_RATE)
    return waveform


def _resample_blocks(blocks: Iterable[Samples], sampling_rate: int) -> Iterator[np.ndarray]:
    """Resample blocks as one waveform each time their rate changes, which it does in some joined files."""
    for rate, group in groupby(blocks, key=lambda block: block[1]):
        resampler = soxr.ResampleStream(rate, sampling_rate, 1, dtype="float32")
        for samples, _ in group:
            yield resampler.resample_chunk(samples)
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def _read_mono_blocks(path: Source, state: State | None = None) -> Iterator[Samples]:
    """Yield (mono block, Hz) of a file in its own rate; raises AudioError, also where it is not as in `state`."""
    name = name_source(path)
    with _opened(path, state) as sound:
        state = state or sound.read_state()
        if suffix_of(path) == NPY:
            yield _read_npy(sound, name), SAMPLING_RATE
            return
        for block in read_blocks(sound.file, name):
            _require_same(name, sound, state)
            yield block


@contextmanager
def _opened(path: Source, state: State | None = None) -> Iterator[OpenFile]:
    """Open a sound; an AudioError of the block names it, and says so where it is not as in `state` or at the opening.
    """
    name = name_source(path)
    with open_sound(path) as sound:
        state = state or sound.read_state()
        try:
            yield sound
        except AudioError as error:
            _require_same(name, sound, state)  # the better reason
            raise AudioError(name, error.reason, error.silent_s) from error


def _require_same(name: str, sound: OpenFile, state: State) -> None:
    if sound.read_state() != state:
        raise AudioError(name, CHANGED)


# Windows


@dataclass(frozen=True)
class WindowStream(Collection[Window]):
    """The windows of a sound file that has been checked, read one by one whenever they are iterated over.

    Iterating ends when the file does, or raises AudioError where it has changed since its check.
    """

    path: Source
    sampling_rate: int
    window_s: float
    duration_s: float
    state: State
    whole_last: bool = False  # in place of a last window under 5 s, the last `window_s` of the file

    def __len__(self) -> int:
        """Return how many windows are expected; what comes decides (a resampler's rounding may make one more)."""
        return _count(self.duration_s, self.window_s)

    def __contains__(self, window: object) -> bool:
        return any(window is other for other in self)

    def __iter__(self) -> Iterator[Window]:
        blocks = _resample_blocks(_read_mono_blocks(self.path, self.state), self.sampling_rate)
        windows = _cut(blocks, self.sampling_rate, self.window_s)
        return _lengthen_last(windows, self.sampling_rate, self.window_s) if self.whole_last else windows


def windows(waveform: np.ndarray, sampling_rate: int = SAMPLING_RATE, window_s: float = WINDOW_S) -> list[Window]:
    """Cut a mono waveform into windows of `window_s` seconds.

    The last, shorter one is included, but for one under 0.5 s that follows others.
    """
    return list(_cut(iter([np.asarray(waveform, dtype=np.float32)]), sampling_rate, window_s))


def stream_windows(
    path: Source, sampling_rate: int = SAMPLING_RATE, window_s: float = WINDOW_S
) -> Collection[Window]:
    """Check a file to its end, so that one with a bad end gives no window at all, and stream its windows.

    A file of one block is decoded once, for its check, and kept. Raises AudioError, here or while the windows are
    iterated over.
    """
    with open_sound(path) as sound:
        state = sound.read_state()
    blocks = _read_mono_blocks(path, state)
    beginning = list(islice(blocks, 2))
    if len(beginning) < 2:
        return list(_cut(_resample_blocks(beginning, sampling_rate), sampling_rate, window_s))
    duration_s = sum(len(samples) / rate for samples, rate in chain(beginning, blocks))
    return WindowStream(path, sampling_rate, window_s, duration_s, state)


def _count(duration_s: float, window_s: float) -> int:
    whole, rest_s = divmod(duration_s, window_s)
    return int(whole) + (rest_s >= LEAST_S or whole == 0)


def _cut(blocks: Iterable[np.ndarray], sampling_rate: int, window_s: float) -> Iterator[Window]:
    size = round(window_s * sampling_rate)
    waiting, start = np.zeros(0, np.float32), 0
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        while len(waiting) >= size:
            yield _window(waiting[:size].copy(), start, sampling_rate)
            waiting, start = waiting[size:], start + size
    if len(waiting) >= (LEAST_S * sampling_rate if start else 1):
        yield _window(waiting, start, sampling_rate)


def _window(samples: np.ndarray, start: int, sampling_rate: int) -> Window:
    return Window(start / sampling_rate, (start + len(samples)) / sampling_rate, samples)


# Windows of whole tracks


@dataclass(frozen=True)
class TrackWindows:
    """The windows that are heard of a track of `duration_s` seconds, in their order; `windows` may be read again."""

    duration_s: float
    windows: Collection[Window]


def hear_windows(
    path: Source, count: int | None = 12, sampling_rate: int = SAMPLING_RATE, window_s: float = WINDOW_S
) -> TrackWindows:
    """Return at most `count` windows, spread evenly over a track, or with None all of them, streamed.

    Windows begin at multiples of `window_s`; in place of a last one under 5 s, the last `window_s` are heard. A file
    is decoded to its end and its duration counted (twice where its header gives a wrong length); only what is heard
    is resampled. Where length and index are exact (PCM in WAV, FLAC of known length), all but the windows and the
    last second is left unread, and a fault in between unnoticed. Silent windows are among them: see `Window.silence`.
    Raises AudioError.
    """
    if count is None:
        stream = stream_windows(path, sampling_rate, window_s)
        if isinstance(stream, WindowStream):
            return TrackWindows(stream.duration_s, replace(stream, whole_last=True))
        found = list(_lengthen_last(stream, sampling_rate, window_s))
        return TrackWindows(found[-1].end_s, found)
    announced_s, exact, state = _announce(path)
    starts = _choose_starts(announced_s, count, window_s)
    if exact and announced_s > count * window_s:
        return TrackWindows(announced_s, _seek_windows(path, starts, announced_s, sampling_rate, window_s, state))
    found, duration_s = _pick_windows(path, starts, sampling_rate, window_s, state)
    true_starts = _choose_starts(duration_s, count, window_s)
    if len(starts) != len(true_starts) or not np.allclose(starts, true_starts, atol=0.1):
        found, duration_s = _pick_windows(path, true_starts, sampling_rate, window_s, state)
    return TrackWindows(duration_s, found)


@dataclass(frozen=True)
class AudibleWindows:
    """Windows, without the silent ones, read one by one whenever they are iterated over."""

    windows: Collection[Window]

    def __len__(self) -> int:
        """Return how many windows there are at most."""
        return len(self.windows)

    def __iter__(self) -> Iterator[Window]:
        return (window for window in self.windows if window.silence is None)


def read_some_windows(
    path: Source, sampling_rate: int, window_s: float, *, count: int | None
) -> Collection[Window]:
    """Return the windows of `hear_windows` in which something can be heard; raises AudioError where that is none."""
    track = hear_windows(path, count, sampling_rate, window_s)
    if not isinstance(track.windows, list):
        return AudibleWindows(track.windows)  # type: ignore[return-value]  # it has all that is used of a collection
    heard = [window for window in track.windows if window.silence is None]
    if not heard:
        raise AudioError(name_source(path), "is silent in all windows that are heard", track.duration_s)
    return heard


def pick_windows(windows: Sequence[Window], count: int | None, sampling_rate: int, window_s: float) -> list[Window]:
    """Return at most `count` of all windows of a track (None: all), as `hear_windows` does."""
    longer = list(_lengthen_last(iter(windows), sampling_rate, window_s))
    return longer if count is None else _spread(longer, count)


def _lengthen_last(windows: Iterable[Window], sampling_rate: int, window_s: float) -> Iterator[Window]:
    before: Window | None = None
    for window in windows:
        if before and window.end_s - window.start_s < LEAST_OF_TRACK_S:
            samples = np.concatenate([before.samples, window.samples])[-round(window_s * sampling_rate) :]
            window = Window(window.end_s - len(samples) / sampling_rate, window.end_s, samples)
        yield window
        before = window


def _choose_starts(duration_s: float, count: int, window_s: float) -> list[float]:
    """Return where at most `count` windows begin, in seconds."""
    total = _count(duration_s, window_s)
    starts = [number * window_s for number in range(total)]
    if total > 1 and duration_s - starts[-1] < LEAST_OF_TRACK_S:
        starts[-1] = duration_s - window_s
    return _spread(starts, count)


def _spread(items: list[Item], count: int) -> list[Item]:
    """Return at most `count` of a track's windows, spread evenly; raises ValueError for fewer than one."""
    if count < 1:
        raise ValueError(f"hear is {count}: give how many windows of a track are heard at most, 1 or more, or None")
    total = len(items)
    return items if total <= count else [items[(2 * i + 1) * total // (2 * count)] for i in range(count)]


def _announce(path: Source) -> tuple[float, bool, State]:
    """Return the seconds that a file announces (0: none), whether one can seek in it by them, and its state."""
    with _opened(path) as sound:
        if suffix_of(path) == NPY:
            return 0.0, False, sound.read_state()
        parts = find_parts(sound.file)
        with open_part(sound.file, parts[0]) as container:
            announced_s, codec = announce_s(container), container.streams.audio[0].codec_context.name
        if all(part.least_s for part in parts):  # counted, over all that are joined
            announced_s = sum(part.least_s or 0.0 for part in parts)
        kind = parts[0].kind
        exact = kind == "flac" or (kind in ("wav", "w64") and codec.startswith("pcm_"))
        return announced_s, exact and len(parts) == 1, sound.read_state()


# A stretch of a recording in its own rate: where it begins (seconds), its mono samples, Hz.
Piece = tuple[float, np.ndarray, int]


def _pick_windows(
    path: Source, starts: Sequence[float], sampling_rate: int, window_s: float, state: State
) -> tuple[list[Window], float]:
    """Decode a file to its end; return the windows that begin at `starts`, and its duration in seconds."""
    found: list[Window] = []
    held: list[Piece] = []
    seconds = 0.0
    for samples, rate in _read_mono_blocks(path, state):
        held.append((seconds, samples, rate))
        seconds += len(samples) / rate
        while len(found) < len(starts) and starts[len(found)] + window_s + MARGIN_S <= seconds:
            found.append(_cut_out(held, starts[len(found)], sampling_rate, window_s))
        following = starts[len(found)] - MARGIN_S if len(found) < len(starts) else math.inf
        held = [piece for piece in held if piece[0] + len(piece[1]) / piece[2] > following]
    found += [
        _cut_out(held, start_s, sampling_rate, window_s) for start_s in starts[len(found) :] if start_s < seconds
    ]
    return found, seconds


def _cut_out(pieces: Iterable[Piece], start_s: float, sampling_rate: int, window_s: float) -> Window:
    """Resample what lies around a window, from a whole second on, which is a whole sample in every rate, and cut."""
    resampled, origin_s = [], None
    for rate, group in groupby(pieces, key=itemgetter(2)):
        begin_s, samples = _join(group, start_s - MARGIN_S, start_s + window_s + MARGIN_S)
        origin_s = begin_s if origin_s is None else origin_s
        resampled.append(resample(samples, rate, sampling_rate))
    first = round((start_s - (origin_s or 0.0)) * sampling_rate)
    samples = np.concatenate(resampled)[first : first + round(window_s * sampling_rate)]
    return Window(start_s, start_s + len(samples) / sampling_rate, samples)


def _join(pieces: Iterable[Piece], low_s: float, high_s: float) -> tuple[float, np.ndarray]:
    """Return pieces of one rate that follow each other as one, cut to whole seconds around low_s to high_s."""
    pieces = list(pieces)
    begin_s, rate = pieces[0][0], pieces[0][2]
    samples = np.concatenate([piece[1] for piece in pieces])
    origin_s = max(begin_s, math.floor(low_s))
    return origin_s, samples[round((origin_s - begin_s) * rate) : round((math.ceil(high_s) - begin_s) * rate)]


def _seek_windows(
    path: Source, starts: Sequence[float], duration_s: float, sampling_rate: int, window_s: float, state: State
) -> list[Window]:
    """Return the windows that begin at `starts`, and make sure that the file ends where it says."""
    found, name = [], name_source(path)
    with _opened(path, state) as sound, open_part(sound.file, find_parts(sound.file)[0]) as container:
        for start_s in starts:
            piece = _decode_from(container, name, start_s - MARGIN_S, start_s + window_s + MARGIN_S)
            found.append(_cut_out([piece], start_s, sampling_rate, window_s))
        begin_s, samples, rate = _decode_from(container, name, duration_s - MARGIN_S, math.inf)
        _require_same(name, sound, state)
    if begin_s + (len(samples) + 0.5) / rate < duration_s:
        raise AudioError(name, "is cut short: it does not last as long as it announces; get the whole file again")
    return found


def _decode_from(container: Any, name: str, low_s: float, high_s: float) -> Piece:
    """Return what lies between two times, by whole seconds."""
    begin_s = max(0, math.floor(low_s))
    stream, frames, first_s = container.streams.audio[0], [], None
    container.seek(round(begin_s / stream.time_base), stream=stream)
    for samples, rate, at_s in decode(container):
        first_s = at_s if first_s is None else first_s
        frames.append((samples, rate))
        if rate == 0 or at_s + samples.shape[1] / rate >= high_s:
            break
    if first_s is None or frames[-1][1] == 0 or first_s > begin_s:
        raise AudioError(name, f"is cut short or damaged in the second after {begin_s} s; get the whole file again")
    rate = frames[0][1]
    channels = np.concatenate([samples for samples, _ in frames], axis=1)[:, round((begin_s - first_s) * rate) :]
    require_finite(name, channels, rate, begin_s)
    return begin_s, mix_down(name, channels), rate


# Stamps


def format_stamp(start_s: float, end_s: float) -> str:
    """Format `0:10–0:20`, `59:50–1:00:00`: minutes and seconds, hours where needed, decimals only where they are."""
    return f"{_format_time(start_s)}–{_format_time(end_s)}"


def _format_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds * 100), 6000)  # in hundredths, so that 59.999 s is 1:00 and not 0:60
    hours, minutes = divmod(minutes, 60)
    text = f"{rest // 100:02d}" + f".{rest % 100:02d}".rstrip("0").rstrip(".")
    return f"{hours}:{minutes:02d}:{text}" if hours else f"{minutes}:{text}"
