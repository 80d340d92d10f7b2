"""Recordings as they are asked about: a sound and its name, in the order in which they were given.

From Python, sound may also be a file's bytes or a waveform.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from descant.data.audio import (
    AudioError,
    Window,
    pick_windows,
    read_some_windows,
    require_sound,
    resample,
    stream_windows,
    windows,
)
from descant.data.sound_file import mix_down, require_finite
from descant.data.storage import Source, is_remote, name_source

Item = TypeVar("Item")

Audio = Source | np.ndarray
ReadWindows = Callable[[Source, int, float], Collection[Window]]


@dataclass(frozen=True)
class Recording:
    """A sound, as `open_sound` takes it, and the name under which its answers are kept."""

    path: Source
    audio: str

    @property
    def clip_id(self) -> str:
        """The name without folders and suffix."""
        if isinstance(self.path, bytes):
            return self.audio
        return Path(self.audio.partition("?")[0] if is_remote(self.path) else self.path).stem

    @classmethod
    def of(cls, source: Source) -> "Recording":
        """Return a sound under its own name."""
        return cls(source, name_source(source))


def answer_id(audio: str, start_s: float | None, question: str | None, generation: Mapping[str, Any]) -> str:
    """Return the key by which a second run knows an answer that it has: sha1, in hexadecimal."""
    key = json.dumps([audio, start_s, question, generation], sort_keys=True, ensure_ascii=False)
    try:
        data = key.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair
        data = key.encode("utf-8", "surrogatepass")
    return hashlib.sha1(data).hexdigest()


def in_order(numbered: Iterable[tuple[int, Item]]) -> Iterator[Item]:
    """Give items, numbered from 0 and in any order, in the order of their numbers; early ones are held back.

    Raises RuntimeError at the end where a number is missing.
    """
    early: dict[int, Item] = {}
    following = 0
    for number, item in numbered:
        early[number] = item
        while following in early:
            yield early.pop(following)
            following += 1
    if early:
        raise RuntimeError(f"item {following} never came, and {len(early)} wait for it")


def as_recording(audio: Audio, sampling_rate: int | None, extractor: Any) -> tuple[Recording, ReadWindows]:
    """Return sound, as it was handed over, as a recording, with what reads its windows.

    Args:
        audio: a path, an address such as https://…, a file's bytes, or a waveform (samples,) or (samples, channels).
        sampling_rate: of a waveform, in Hz.
        extractor: the model's feature extractor.
    """
    if not isinstance(audio, np.ndarray):
        return Recording.of(audio), stream_windows
    if sampling_rate is None:
        raise ValueError("a waveform needs sampling_rate=, in Hz")
    rate = extractor.sampling_rate
    cut = windows(_to_mono(audio, sampling_rate, rate), rate, extractor.window_s)
    return Recording(b"", "array"), lambda *_: cut


def as_track(read: ReadWindows, count: int | None) -> ReadWindows:
    """Return what reads at most `count` windows of a track, None: all, in place of what reads every window."""
    if read is stream_windows:
        return partial(read_some_windows, count=count)
    return lambda path, rate, window_s: pick_windows(list(read(path, rate, window_s)), count, rate, window_s)


def _to_mono(waveform: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Return a float waveform (samples,) or (samples, channels) as mono samples at another rate."""
    if waveform.ndim not in (1, 2) or not np.issubdtype(waveform.dtype, np.floating):
        raise AudioError("array", f"is {waveform.dtype} of shape {waveform.shape}; give floats (samples,) in [-1, 1]")
    samples = waveform[:, None] if waveform.ndim == 1 else waveform
    require_finite("array", np.ascontiguousarray(samples.T, np.float32), rate)
    mono = mix_down("array", np.ascontiguousarray(samples.T, np.float32))
    require_sound("array", mono, rate)
    return mono if rate == target_rate else resample(mono, rate, target_rate)

