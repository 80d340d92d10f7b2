"""The answers about recordings: in free words about windows, pooled to one about a track, and typed ones about tracks.

An answer in words is a line of answers.jsonl.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from transformers import PreTrainedModel, ProcessorMixin

from descant.answering.stream import EncodedWindow, ReadWindows
from descant.data.audio import AudioError, TrackWindows, Window, format_stamp, hear_windows
from descant.data.storage import Source, name_source
from descant.models.lp_music_caps.sound_input import Span
from descant.models.lp_music_caps.track_music import (
    NO_MUSIC,
    SILENCE,
    EncodedSpan,
    TrackDecider,
    WindowAnswer,
    answer_track,
    state,
)
from descant.program import shorten

LONGEST_QUESTION = 60  # characters of it in a message
WINDOWS_HEARD = 12  # of a track, at most
REASONS = {
    SILENCE: "no music heard (silence)",
    NO_MUSIC: "no music heard (it sounds like noise, tones or speech)",
    "unlike training": "not sure (the model was not trained on such a question)",
}

Decision = Mapping[str, Any]


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
    says so, None for what no window says by itself. Where the question is of a trained type, `decided` holds the
    sentence that is the prediction, its probability (None where no music is heard) and whether it is sure; it rests on
    all windows with music in them.
    """

    windows: int = 1
    of: int = 1
    heard: list[list[float]] = field(default_factory=list)
    confidence: float = 1.0
    others: dict[str, int] = field(default_factory=dict)
    decided: dict[str, Any] | None = None

    @property
    def probability(self) -> float | None:
        """Return that of a decided answer; None for one in free words, and where no music is heard."""
        return self.decided["probability"] if self.decided else None

    @property
    def sure(self) -> bool | None:
        """Return whether a decided answer reaches its fitted threshold; None for one in free words."""
        return self.decided["sure"] if self.decided else None

    def to_text(self) -> str:
        """Return the answer with its probability, or the seconds and the share of windows that say so: one line."""
        if self.decided:
            share = None if self.probability is None else f"({100 * self.probability:.0f} %)"
            return join_parts(self.audio, self.question, self.prediction, share)
        spans = ", ".join(format_stamp(*span) for span in self.heard)
        share = f", {self.windows} of {self.of} windows" if self.of > 1 else ""
        return join_parts(self.audio, self.question, self.prediction, f"({spans}{share})")


def join_parts(*parts: str | None) -> str:
    """Join parts to one line, two spaces between them and single ones in them."""
    return "  ".join(" ".join(part.split()) for part in parts if part is not None)


def answer_id(audio: str, start_s: float | None, question: str | None, generation: Mapping[str, Any]) -> str:
    """Return the key by which a second run knows an answer that it has: sha1, in hexadecimal."""
    key = json.dumps([audio, start_s, question, generation], sort_keys=True, ensure_ascii=False)
    try:
        data = key.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair
        data = key.encode("utf-8", "surrogatepass")
    return hashlib.sha1(data).hexdigest()


def pool_answers(answers: Iterable[Answer], questions: Sequence[str | None] = ()) -> Iterator[Answer]:
    """Pool answers about windows, each recording's together, to one a question and track, in the order of `questions`.

    What could not be answered, or is decided about the track, is passed on as it is.
    """
    order = {question: number for number, question in enumerate(questions)}
    for asked in split_recordings(answers):
        for question in sorted(asked, key=lambda one: order.get(one, 0)):
            first = asked[question][0]
            whole = first.error is not None or isinstance(first, TrackAnswer)
            yield first if whole else pool_track(asked[question])


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


# Typed answers


@dataclass(frozen=True)
class TrackDecisions:
    """Typed answers about one track of `duration_s` seconds, by the names of their questions."""

    audio: str
    duration_s: float
    answers: dict[str, dict[str, Any]]

    def to_record(self, model: str) -> dict[str, Any]:
        """Return what a line of JSON holds; `model` is the name that is shown."""
        seconds = round(self.duration_s, 3)
        return {"audio": self.audio, "duration_s": seconds, "decisions": self.answers, "model": model}


class Decider:
    """Answers the same typed questions about one sound file after another."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        questions: Mapping[str, Any],
        hear: int | None = WINDOWS_HEARD,
    ) -> None:
        """
        questions: System One's, by name. hear: how many windows of a track are heard at most; None: all.

        Raises ValueError for a question that is none, and for a model without `decision.json`.
        """
        self.extractor, self.hear = processor.feature_extractor, hear
        self.tracks = TrackDecider(model, processor, questions)

    def decide(self, path: Source, read_windows: ReadWindows | None = None) -> TrackDecisions:
        """Decide all questions about a sound file; raises AudioError where it cannot be read.

        read_windows: gives windows in place of the file's.
        """
        return self.decide_windows(path, self.read(path, read_windows))

    def read(self, path: Source, read_windows: ReadWindows | None = None) -> TrackWindows:
        """Return the windows of a sound file that are heard, see `decide`; raises AudioError."""
        rate, window_s = self.extractor.sampling_rate, self.extractor.window_s
        if read_windows is None:
            return hear_track(path, self.hear, rate, window_s)
        windows = read_windows(path, rate, window_s)
        return TrackWindows(max(window.end_s for window in windows), windows)

    def decide_windows(self, path: Source, track: TrackWindows) -> TrackDecisions:
        """Decide all questions about windows of a sound file that are at hand."""
        return TrackDecisions(name_source(path), track.duration_s, self.tracks.decide(map(as_span, track.windows)))


def decide_file(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    questions: Mapping[str, Any],
    path: Source,
    hear: int | None,
    read_windows: ReadWindows | None = None,
) -> dict[str, dict[str, Any]]:
    """Answer typed questions about one sound file; see `Decider`."""
    return Decider(model, processor, questions, hear).decide(path, read_windows).answers


def hear_track(path: Source, hear: int | None, sampling_rate: int, window_s: float) -> TrackWindows:
    """Return the windows that are heard of a track, none of a silent one; raises AudioError."""
    try:
        return hear_windows(path, hear, sampling_rate, window_s)
    except AudioError as error:
        if error.silent_s is None:
            raise
        return TrackWindows(error.silent_s, ())


def as_span(window: Window) -> Span | EncodedSpan:
    """Return a window as `TrackDecider` takes it."""
    span = window.start_s, window.end_s, window.samples
    return (*span, window.features) if isinstance(window, EncodedWindow) and window.whole else span


def format_decisions(answers: Mapping[str, Decision], always: bool = False) -> Iterator[str]:
    """Yield one aligned line a question: the answer, its probability and the seconds it rests on, or "not sure"."""
    width = max(map(len, answers), default=0)
    for name, answer in answers.items():
        heard = ", ".join(format_stamp(*span) for span in answer.get("heard", ()))
        yield f"  {name:<{width}}  {describe_answer(answer, always):<28}  {heard}".rstrip()


def describe_answer(answer: Decision, always: bool = False) -> str:
    """Write an answer in words: `jazz (82 %)`, `not sure (jazz? 41 %)`, `no music heard (silence)`.

    Options that the model does not know are named, since with them nothing is sure.
    """
    if answer.get("reason"):
        return REASONS[answer["reason"]]
    text, probability = state(answer)
    share = f"{100 * probability:.0f} %"
    unknown = f"unknown to the model: {', '.join(answer['unknown'])}" if answer.get("unknown") else ""
    note = "".join(f", {one}" for one in (unknown, name_contradictions(answer)) if one)
    return f"{text} ({share}{note})" if answer["sure"] or always else f"not sure ({text}? {share}{note})"


def name_contradictions(answer: Decision) -> str:
    """Return `contradicts drums, caption` for an answer or a caption, "" where it contradicts nothing."""
    return f"contradicts {', '.join(answer['contradicts'])}" if answer.get("contradicts") else ""
