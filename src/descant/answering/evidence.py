"""Where in time the evidence of a typed answer lies, by occlusion: seconds are replaced, and it is decided again.

A second counts for an answer by what the answer's probability loses where that second is not heard. A window counts by
what is lost where it is left out of its track, which costs nothing: the windows of a track are decided one by one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from descant.answering.answers import REASONS, Decider, TrackDecisions
from descant.answering.listener import Listener
from descant.answering.questions import as_choice, read_question
from descant.answering.stream import Audio, as_recording, as_track
from descant.data.audio import AudioError, Window, format_stamp
from descant.data.storage import Source
from descant.models.lp_music_caps.decision_music import (
    MusicDecisionConfig,
    PlannedQuestion,
    decide_options,
    prepare_windows,
)
from descant.models.lp_music_caps.track_music import SILENCE, TrackDecider, state

SPAN_S = 1.0  # of what is judged at a time
MARGIN_S = 0.5  # replaced with it on both sides: what sounds across a span's edges is evidence as long as it is heard
DETAILED = 3  # windows of a track whose seconds are tried
LEAST_SPANS = 2  # of the shortest window
FADE_S = 0.01  # at both ends of what is replaced, which else would click
LEAST_DROP = 0.01  # of a probability: what loses less does not stand out


@dataclass(frozen=True)
class Span:
    """Seconds of a recording, and how far the answer's probability falls where they are not heard (below 0: it rises).
    """

    start_s: float
    end_s: float
    drop: float


@dataclass(frozen=True)
class Evidence:
    """Which seconds an answer rests on.

    question: its name. option: the answer, in words. probability: of the answer, between 0 and 1.
    spans: seconds of the windows that count most, in the order of time. Their drops are probabilities, not their
        logarithms, since they are read beside the answer's; either gives the same order.
    windows: those that were heard, with what leaving each out costs; none where only one was heard.
    """

    question: str
    option: str
    probability: float
    spans: list[Span]
    windows: list[Span]

    @property
    def strongest(self) -> list[Span]:
        """The spans of `find_outstanding`, neighbours joined, with the drop of the strongest among them."""
        joined: list[Span] = []
        for span in find_outstanding(self.spans):
            if joined and span.start_s <= joined[-1].end_s + 0.01:
                before = joined.pop()
                span = Span(before.start_s, max(before.end_s, span.end_s), max(before.drop, span.drop))
            joined.append(span)
        return joined

    def to_record(self) -> dict[str, Any]:
        """Return what a line of JSON holds of it beside the answer."""
        spans = {"spans": self.spans, "windows": self.windows, "strongest": self.strongest}
        rounded = {name: [_round(asdict(span)) for span in found] for name, found in spans.items()}
        return {"option": self.option, "probability": round(self.probability, 4)} | rounded

    def to_text(self) -> str:
        """Return the strongest seconds as one line: `0:04–0:08 (without 0:05–0:06: 61 %)`."""
        strongest = self.strongest
        if not strongest:
            return "no second stands out"
        most = max(self.spans, key=lambda span: span.drop)
        shown = ", ".join(format_stamp(span.start_s, span.end_s) for span in strongest)
        without = 100 * (self.probability - most.drop)
        return f"{shown} (without {format_stamp(most.start_s, most.end_s)}: {without:.0f} %)"


def find_outstanding(spans: Sequence[Span]) -> list[Span]:
    """Return the spans that lose at least half of what the strongest one loses, and at least 1 % of probability."""
    least = max(LEAST_DROP, max((span.drop for span in spans), default=0.0) / 2)
    return [span for span in spans if span.drop >= least]


def format_evidence(evidence: Mapping[str, Evidence]) -> Iterator[str]:
    """Yield one aligned line a question: the seconds that its answer rests on."""
    width = max(map(len, evidence), default=0)
    for name, one in evidence.items():
        yield f"    {name:<{width}}  {one.to_text()}"


def _round(span: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in span.items()}


def explain(
    listener: Listener, sound: Audio, question: str, options: Sequence[str] | None = None, *, hear: int | None = 12,
    sampling_rate: int | None = None,
) -> Evidence:  # fmt: skip
    """Say which seconds of a recording the answer to a question rests on.

    A function and no method of `Listener`: what only asks does not load it.

    Args:
        listener: the loaded model, with `decision.json`.
        sound: a path, address, bytes or waveform, as `Listener.ask` takes it.
        question: with `options` a choice among them; without, a question in the words of a trained type is a choice
            among the type's options, and any other one of yes or no.
        options: answers to choose from.
        hear: how many windows of the track are heard at most; None: all.
        sampling_rate: of a waveform, in Hz.

    Raises:
        AudioError: the sound cannot be read, or is silent.
        ValueError: nothing is answered: no music is heard, or the model was not trained on such a question.
    """
    asked = {question: as_typed(question, options, listener.model.decision_config)}
    recording, read = as_recording(sound, sampling_rate, listener.processor.feature_extractor)
    own = as_track(read, hear) if isinstance(sound, np.ndarray) else None
    decisions, found = explain_track(
        Decider(listener.model, listener.processor, asked, hear), recording.path, own
    )
    if question in found:
        return found[question]
    reason = decisions.answers[question]["reason"]
    if reason == SILENCE:
        raise AudioError(recording.audio, REASONS[reason])
    raise ValueError(f"{recording.audio}: {question}: {REASONS[reason]}")


def as_typed(question: str, options: Sequence[str] | None, config: MusicDecisionConfig | None) -> dict[str, Any]:
    """Return a question in free words as System One's."""
    if options is not None:
        return {"type": "choice", "instructions": question, "criteria": dict.fromkeys(options)}
    types = {} if config is None else config.types()
    reading = read_question(question, types)
    if reading is not None and reading.parts:
        raise ValueError(f"{question}: joins several questions: ask for the evidence of one at a time")
    if reading is None or len(reading.names) > 1:
        return {"type": "noul", "instructions": question}
    return as_choice(types[reading.names[0]])


def explain_track(
    decider: Decider, path: Source, read_windows: Any = None, detailed: int = DETAILED
) -> tuple[TrackDecisions, dict[str, Evidence]]:
    """Decide all questions about a sound file, and say what each answer rests on.

    Occluded windows are encoded once for all questions, one batch a window. A file is decoded once, but for one that
    is heard as a stream (a long one, every window): that one twice, so that memory does not grow.

    Args:
        decider: answers the questions.
        path: the sound file, as `Decider.decide` takes it.
        read_windows: gives windows in place of the file's.
        detailed: windows whose seconds are tried, for each question those that it rests on most.

    Returns:
        The decisions, and the evidence by the names of the questions that have an answer.

    Raises:
        AudioError: the sound cannot be read.
    """
    track = decider.read(path, read_windows)
    decisions = decider.decide_windows(path, track)
    return decisions, explain_windows(decider.tracks, decisions.answers, track.windows, detailed)


def explain_windows(
    tracks: TrackDecider, answers: Mapping[str, Any], windows: Iterable[Window], detailed: int = DETAILED
) -> dict[str, Evidence]:
    """Say what answers rest on that were just given about these windows (see `explain_track`), by question."""
    if not tracks.heard:
        return {}
    asked = [_Asked(planned, scores) for planned, scores in zip(tracks.answerable, tracks.scores, strict=True)]
    chosen = {number for one in asked for number in one.rank_windows()[:detailed]}
    numbers = {span[0]: number for number, span in enumerate(tracks.heard)}
    spans: list[list[Span]] = [[] for _ in asked]
    for window in windows:
        number = numbers.get(window.start_s)
        if number in chosen:
            cuts = cut_spans(len(window.samples), tracks.processor.feature_extractor.sampling_rate)
            for one, found, scores in zip(asked, spans, _score_without(tracks, window, cuts), strict=False):
                drops = one.measure_drops(number, scores)
                found += [_as_span(window, cut, drop) for cut, drop in zip(cuts, drops, strict=True)]
    return {one.planned.name: one.conclude(answers, found, tracks.heard)
            for one, found in zip(asked, spans, strict=True)}  # fmt: skip


@dataclass(frozen=True)
class _Asked:
    """A question about a track, and the log-probabilities (windows, options) that decide it."""

    planned: PlannedQuestion
    scores: torch.Tensor

    def probability(self, scores: torch.Tensor) -> float:
        """Return the probability of the track's answer by other scores (windows, options)."""
        option = int(decide_options(self.planned, self.scores).argmax())
        return float(decide_options(self.planned, scores)[option].exp())

    def leave_out(self, number: int) -> float:
        """Return what is lost where a window is left out; 0 for the only one."""
        if len(self.scores) == 1:
            return 0.0
        others = torch.cat([self.scores[:number], self.scores[number + 1 :]])
        return self.probability(self.scores) - self.probability(others)

    def rank_windows(self) -> list[int]:
        """Return the numbers of the windows, first the one that the answer rests on most."""
        return sorted(range(len(self.scores)), key=self.leave_out, reverse=True)

    def measure_drops(self, number: int, occluded: torch.Tensor) -> list[float]:
        """Return what is lost with each of these (spans, options) in the place of a window's scores."""
        whole, scores = self.probability(self.scores), self.scores.clone()
        drops = []
        for row in occluded:
            scores[number] = row
            drops.append(whole - self.probability(scores))
        return drops

    def conclude(
        self, answers: Mapping[str, Any], spans: list[Span], heard: Sequence[tuple[float, float]]
    ) -> Evidence:
        """Return the evidence, with the windows' own."""
        text, _ = state(answers[self.planned.name])
        windows = [Span(start_s, end_s, self.leave_out(number)) for number, (start_s, end_s) in enumerate(heard)]
        shown = windows if len(windows) > 1 else []
        return Evidence(self.planned.name, text, self.probability(self.scores), spans, shown)


def _score_without(
    tracks: TrackDecider, window: Window, cuts: Sequence[tuple[int, int]]
) -> list[torch.Tensor]:
    """Return log-probabilities (spans, options) of each question about a window without each of its spans."""
    rate = tracks.processor.feature_extractor.sampling_rate
    margin = round(MARGIN_S * rate) if len(cuts) > LEAST_SPANS else 0
    occluded = [occlude(window.samples, start - margin, end + margin, rate) for start, end in cuts]
    return tracks.model.score_options(prepare_windows(occluded, tracks.processor), **tracks.prepared)


def cut_spans(samples: int, sampling_rate: int) -> list[tuple[int, int]]:
    """Divide the samples of a window into equal spans of about a second."""
    count = max(LEAST_SPANS, round(samples / (SPAN_S * sampling_rate)))
    return list(pairwise(samples * number // count for number in range(count + 1)))


def occlude(samples: np.ndarray, start: int, end: int, sampling_rate: int) -> np.ndarray:
    """Return a window's samples (samples,) with others of it in the place of a span, faded in and out.

    They come from half a window away. What is put there must neither end the music, as silence does, nor move what
    stays, as cutting the span out does: a model answers to either, see `docs/decide.md`.
    """
    fade = max(1, round(FADE_S * sampling_rate))
    inside = np.zeros(len(samples) + 2 * fade, np.float32)
    inside[fade + max(0, start) : fade + min(len(samples), end)] = 1.0
    share = np.convolve(inside, np.full(2 * fade + 1, 1 / (2 * fade + 1)), mode="same")[fade : fade + len(samples)]
    return (samples * (1 - share) + np.roll(samples, len(samples) // 2) * share).astype(np.float32)


def _as_span(window: Window, cut: tuple[int, int], drop: float) -> Span:
    length_s, samples = window.end_s - window.start_s, len(window.samples)
    start_s, end_s = (window.start_s + length_s * edge / samples for edge in cut)
    return Span(start_s, end_s, drop)
