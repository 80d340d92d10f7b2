"""Recordings as they are asked about, and the answers about their windows and whole tracks.

A recording is a sound and its name; from Python, sound may also be a file's bytes or a waveform. An answer is a line
of answers.jsonl; those about the windows of a track are pooled to one.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from descant.data.audio import (
    AudioError,
    Window,
    format_stamp,
    pick_windows,
    read_some_windows,
    require_sound,
    resample,
    stream_windows,
    windows,
)
from descant.data.sound_file import mix_down, require_finite
from descant.data.storage import Source, is_remote, name_source
from descant.models.lp_music_caps.track_music import WindowAnswer, answer_track
from descant.program import shorten

Item = TypeVar("Item")

Audio = Source | np.ndarray
ReadWindows = Callable[[Source, int, float], Collection[Window]]
LONGEST_QUESTION = 60  # characters of it in a message


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


# Answers


@dataclass(frozen=True)
class Answer:
    """A line of answers.jsonl.

    What cannot be answered has an `error` in place of the prediction; a window in which nothing can be heard has one
    such line, without a question, and a file that cannot be read one without a window. start_s, end_s: seconds.
    score: length-normalised log-probability of the prediction. generation: all settings that decide the answer.
    """

    id: str
    clip_id: str
    audio: str
    start_s: float | None
    end_s: float | None
    question: str | None
    model: str
    generation: Mapping[str, Any]
    question_type: str | None = None
    prediction: str | None = None
    references: list[str] = field(default_factory=list)
    score: float | None = None
    error: str | None = None

    def describe_error(self) -> str:
        """Return what could not be answered and why, as `file: window: question: error`."""
        stamp = "" if self.start_s is None or self.end_s is None else format_stamp(self.start_s, self.end_s)
        question = shorten(" ".join((self.question or "").split()), LONGEST_QUESTION)
        return ": ".join(filter(None, [self.audio, stamp, question, self.error]))

    def to_record(self) -> dict[str, Any]:
        """Return the fields as a line of answers.jsonl holds them."""
        return asdict(self)

    def to_json(self) -> str:
        """Return the answer as one line of JSON."""
        return json.dumps(self.to_record(), ensure_ascii=False)

    def to_text(self) -> str:
        """Return the answer as one line: file, seconds, question, prediction."""
        return join_parts(self.audio, format_stamp(self.start_s or 0.0, self.end_s or 0.0), self.question,
                          self.prediction)  # fmt: skip


@dataclass(frozen=True)
class TrackAnswer(Answer):
    """The answer to one question (None: a caption) about a track, from its first window to its last.

    windows, of, heard, confidence, others: what it rests on, see `PooledAnswer`. score: of the surest window that
    says so, None for what no window says by itself.
    """

    windows: int = 1
    of: int = 1
    heard: list[list[float]] = field(default_factory=list)
    confidence: float = 1.0
    others: dict[str, int] = field(default_factory=dict)

    def to_text(self) -> str:
        """Return the answer, the seconds that it rests on and the share of the windows: one line."""
        spans = ", ".join(format_stamp(*span) for span in self.heard)
        share = f", {self.windows} of {self.of} windows" if self.of > 1 else ""
        return join_parts(self.audio, self.question, self.prediction, f"({spans}{share})")


def join_parts(*parts: str | None) -> str:
    """Join parts to one line, two spaces between them and single ones in them."""
    return "  ".join(" ".join(part.split()) for part in parts if part is not None)


def pool_answers(answers: Iterable[Answer]) -> Iterator[Answer]:
    """Pool answers about windows, each recording's together, to one a question and track.

    What could not be answered is passed on as it is.
    """
    for asked in split_recordings(answers):
        for same in asked.values():
            yield same[0] if same[0].error is not None else pool_track(same)


def pool_track(answers: Sequence[Answer]) -> TrackAnswer:
    """Return one answer about a track from those to the same question about its windows."""
    first = answers[0]
    windows = [WindowAnswer(one.start_s or 0.0, one.end_s or 0.0, one.prediction or "", one.score) for one in answers]
    pooled = answer_track(first.question, windows)
    own = {one.name: getattr(first, one.name) for one in fields(Answer)}
    place = {
        "id": answer_id(first.audio, None, first.question, first.generation),
        "start_s": min(one.start_s for one in windows), "end_s": max(one.end_s for one in windows),
    }  # fmt: skip
    return TrackAnswer(**own | place | asdict(pooled) | {"confidence": round(pooled.confidence, 4)})


def split_recordings(answers: Iterable[Answer]) -> Iterator[dict[str | None, list[Answer]]]:
    """Yield the answers of one recording after another, by question; a failed one comes by itself.

    A recording may follow itself: it ends where a question is answered about the same window again.
    """
    asked: dict[str | None, list[Answer]] = {}
    last: str | None = None
    seen: set[tuple[str, float | None, str | None]] = set()
    for answer in answers:
        key = answer.audio, answer.start_s, answer.question
        if answer.error is not None and answer.start_s is not None:  # of one window
            yield {answer.question: [answer]}
            continue
        if asked and (answer.audio != last or answer.error is not None or key in seen):
            yield asked
            asked, seen = {}, set()
        last = answer.audio
        if answer.error is not None:
            yield {answer.question: [answer]}
            continue
        seen.add(key)
        asked.setdefault(answer.question, []).append(answer)
    if asked:
        yield asked
