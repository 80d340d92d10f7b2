"""Answers about cached features, and audio controls, which tell whether a model's score depends on the audio.

Each control asks again with another clip's audio, noise, silence, or without the question. A score that a model keeps
without the right audio comes from the question and from what answers usually say.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel, ProcessorMixin

from descant.answering.stream import AnswerStream, Request
from descant.data.annotations import Row
from descant.data.collator import FeatureReader
from descant.data.splits import recording_of
from descant.evaluation.exact import exact_measures, is_closed, majority_measures
from descant.evaluation.measures import Difference, Measure, compare
from descant.program import name_error

log = logging.getLogger(__name__)

NOISE_RMS = 0.1  # -20 dBFS, as loud as music
# Only these measure agreement with the references; lengths and vocabularies say nothing of the audio.
QUALITY = ("bleu", "meteor", "rougeL", "bertscore", "exact", "claims")
WITHOUT_AUDIO = ("shuffled", "noise", "silence", "majority")  # conditions under which only the text can be known
SMALL_SHARE = 0.1


def answer_rows(
    model: PreTrainedModel, processor: ProcessorMixin, rows: Sequence[Row], features: FeatureReader, *,
    heard: Mapping[str, str] | None = None, batch_size: int = 32, progress: str | None = None,
    everything: bool = False, **generation: Any,
) -> list[str]:  # fmt: skip
    """Answer the questions of rows, in their order; one that fails is logged, and its text is empty.

    Args:
        model: any model with `answer_many`.
        processor: that of the model.
        rows: clip and question each.
        features: gives (bands, frames) for a clip id.
        heard: clip id → the clip that is heard in its place (the shuffled-audio control).
        batch_size: questions at a time.
        progress: title of a progress bar on stderr.
        everything: leave long answers as the model words them, see `AnswerStream`.
        generation: settings of `generate`.
    """

    def requests() -> Iterator[Request[int]]:
        for index, row in enumerate(rows):
            clip_id = heard[row.clip_id] if heard else row.clip_id
            yield Request(index, clip_id, row.question, read_features(features, clip_id))

    texts = [""] * len(rows)
    stream = AnswerStream(model, processor, "", everything=everything, **generation)
    answered = stream.answer(requests(), batch_size, refuses=True)
    for index, outcome in tqdm(answered, total=len(rows), desc=progress, disable=progress is None):
        texts[index] = outcome.text
        if outcome.error is not None:
            log.warning("%s, %r: not answered: %s", rows[index].clip_id, rows[index].question, outcome.error)
    return texts


def read_features(features: FeatureReader, clip_id: str) -> torch.Tensor | str:
    """Return a clip's cached features, or why they cannot be read."""
    try:
        return torch.from_numpy(features.read(clip_id))
    except Exception as error:
        return name_error(error)


def derangement(clip_ids: Iterable[str], seed: int) -> dict[str, str]:
    """Map every clip to another one, each used once (Sattolo's algorithm, 1986: one random cycle).

    As far as there are others, a clip is mapped to none of its own recording: another window of one song sounds like
    it. The set of clips and the seed decide, not the order. Raises ValueError for fewer than two clips.
    """
    clips = sorted(set(clip_ids))
    if len(clips) < 2:
        raise ValueError(f"the control with another clip's audio needs two clips or more: there is {len(clips)}")
    rng, others = np.random.default_rng(seed), clips.copy()
    for last in range(len(clips) - 1, 0, -1):
        other = rng.integers(last)
        others[last], others[other] = others[other], others[last]
    return part_recordings(dict(zip(clips, others, strict=True)))


def part_recordings(heard: dict[str, str]) -> dict[str, str]:
    """Return the map of clips with those swapped that lead into the same recording, where a swap mends that."""
    heard, recordings = dict(heard), {clip: recording_of(clip) for clip in heard}
    for clip in [one for one, other in heard.items() if recordings[one] == recordings[other]]:
        for other in heard:
            parted = recordings[clip] != recordings[heard[other]] and recordings[other] != recordings[heard[clip]]
            if parted:
                heard[clip], heard[other] = heard[other], heard[clip]
                break
    return heard


class ControlExtractor(Protocol):
    """What computes a model's features out of a waveform."""

    @property
    def num_samples(self) -> int:
        """Samples of a window."""

    def extract(self, waveform: np.ndarray) -> Any:
        """Return the features (bands, frames) of a mono float32 waveform (num_samples,)."""


class HashedFeatures(FeatureReader, Protocol):
    """Features of which each clip's have a hash, as in a feature store."""

    def feature_sha256(self, clip_id: str) -> str:
        """Return the hash of a clip's features."""


@dataclass(frozen=True)
class Condition:
    """One way to answer all questions; `own` is the model as it is used."""

    name: str
    features: HashedFeatures
    heard: Mapping[str, str] = field(default_factory=dict)  # clip → the clip heard in its place
    asks: bool = True

    def read(self, clip_id: str, out: np.ndarray | None = None) -> np.ndarray:
        """Return the features (bands, frames) that stand for a clip."""
        return self.features.read(self.heard.get(clip_id, clip_id))

    def heard_hash(self, clip_id: str) -> str:
        """Return the hash of those features: an answer about others says nothing of these."""
        return self.features.feature_sha256(self.heard.get(clip_id, clip_id))


@dataclass(frozen=True)
class Noise:
    """White noise at −20 dBFS in the place of every clip, seeded by the clip's id."""

    extractor: ControlExtractor

    def read(self, clip_id: str, out: np.ndarray | None = None) -> np.ndarray:
        """Return the noise's features (bands, frames)."""
        seed = int.from_bytes(hashlib.sha256(clip_id.encode()).digest()[:8], "big")
        noise = np.random.default_rng(seed).normal(scale=NOISE_RMS, size=self.extractor.num_samples)
        return np.asarray(self.extractor.extract(noise.astype(np.float32)))

    def feature_sha256(self, clip_id: str) -> str:
        """Return a word for a hash: the clip's id and the model's extractor decide the noise."""
        return "noise"


@dataclass(frozen=True)
class Silence:
    """Digital silence in the place of every clip."""

    extractor: ControlExtractor

    def read(self, clip_id: str, out: np.ndarray | None = None) -> np.ndarray:
        """Return silence's features (bands, frames)."""
        return np.asarray(self.extractor.extract(np.zeros(self.extractor.num_samples, dtype=np.float32)))

    def feature_sha256(self, clip_id: str) -> str:
        """Return a word for a hash: the model's extractor decides the silence."""
        return "silence"


def make_conditions(
    features: HashedFeatures, extractor: ControlExtractor, clips: Iterable[str], asked: bool, seed: int = 0
) -> list[Condition]:
    """Return every control; the one without a question only where questions are `asked`."""
    conditions = [
        Condition("shuffled", features, heard=derangement(clips, seed)),
        Condition("noise", Noise(extractor)),
        Condition("silence", Silence(extractor)),
    ]
    return [*conditions, Condition("no_question", features, asks=False)] if asked else conditions


def measure_gaps(
    own: Sequence[Measure], controls: Mapping[str, Sequence[Measure]], clips: Sequence[str]
) -> dict[str, dict[str, Difference]]:
    """Return, for each control and score, the control's score (first), the model's own (second) and their gap."""
    gaps = {}
    for name, measures in controls.items():
        known = {measure.name: measure for measure in measures if measure.name.startswith(QUALITY)}
        ours = [measure for measure in own if measure.name in known]
        differences = compare([known[measure.name] for measure in ours], ours, clips)
        gaps[name] = {difference.name: difference for difference in differences}
    return gaps


def explain_gaps(gaps: Mapping[str, Mapping[str, Difference]]) -> list[str]:
    """Return a sentence for each score, on the control that comes closest to the model's own score."""
    scores = dict.fromkeys(score for control in gaps.values() for score in control if not score.startswith("exact_"))
    sentences = []
    for score in scores:
        rivals = [(gaps[name][score], name) for name in WITHOUT_AUDIO if score in gaps.get(name, {})]
        if rivals:
            closest, name = max(rivals, key=lambda rival: rival[0].first)
            sentences.append(explain_gap(closest, name))
    return sentences


def explain_gap(gap: Difference, control: str) -> str:
    """Return a sentence that says whether a score is explained by text alone."""
    without = {
        "shuffled": "another clip's audio", "noise": "noise", "silence": "silence",
        "majority": "no audio at all (the commonest answer of each question type)",
    }[control]  # fmt: skip
    if gap.second <= 0:
        return f"{gap.name} is 0 with the right audio: there is nothing to explain."
    scores = f"{gap.second:.3f} with the right audio, {gap.first:.3f} with {without}, a gap of {gap.gap:.3f}"
    scores += f" [{gap.interval.low:.3f}, {gap.interval.high:.3f}]"
    if gap.interval.low <= 0:
        return f"{gap.name} is explained by text alone: {scores}."
    if gap.gap < SMALL_SHARE * gap.second:
        return f"{gap.name} is nearly explained by text alone: {scores}, {gap.gap / gap.second:.0%} of the score."
    return f"{gap.name} depends on the audio: {scores}, {gap.gap / gap.second:.0%} of the score."


@dataclass(frozen=True)
class Listening:
    """Exact answers to closed questions under three conditions: own audio, another clip's audio, no audio.

    own, shuffled, majority: the share over all questions, then the share of each question type (see `exact_measures`).
    clips: the clip of each question.
    """

    own: list[Measure]
    shuffled: list[Measure]
    majority: list[Measure]
    clips: list[str]


def measure_listening(
    model: PreTrainedModel, processor: ProcessorMixin, rows: Sequence[Row], train_rows: Sequence[Row],
    features: FeatureReader, *, seed: int = 0, batch_size: int = 128,
) -> Listening:  # fmt: skip
    """Answer the closed questions among `rows` greedily, with their own clips and with others'.

    `descant evaluate --controls --num_beams 1` of the same questions gives the same numbers.

    Raises:
        ValueError: fewer than two clips, or a question type that the training split does not answer.
    """
    rows = [row for row in rows if is_closed(row.question_type)]
    clips, references = [row.clip_id for row in rows], [(row.answer,) for row in rows]
    kinds = [row.question_type for row in rows]
    majority = majority_measures(train_rows, references, kinds)
    if not majority:
        raise ValueError("the training split does not answer every type of closed question")

    def measure(title: str, heard: Mapping[str, str] | None) -> list[Measure]:
        answers = answer_rows(
            model, processor, rows, features, heard=heard, batch_size=batch_size, progress=title, num_beams=1
        )
        return exact_measures(answers, references, kinds)

    own = measure("own audio", None)
    return Listening(own, measure("another clip's audio", derangement(clips, seed)), majority, clips)


def format_listening(listening: Listening, title: str) -> str:
    """Return the percentages as lines for a terminal."""
    lines = [f"{title}: exact answers to {len(listening.clips)} closed questions (percent, 95 % interval by clip)"]
    for name, measures in (
        ("model, own audio", listening.own), ("best answer without audio", listening.majority),
        ("model, another clip's audio", listening.shuffled),
    ):  # fmt: skip
        value, low, high = _percent(measures[0], listening.clips).values()
        lines.append(f"  {name:30} {value:5.1f}  [{low:.1f}, {high:.1f}]")
    lines.append(f"  {'by question type':30} {'own':>6} {'none':>6} {'other':>6}")
    for kind, values in _by_type(listening).items():
        lines.append(f"    {kind:28} " + " ".join(f"{value:6.1f}" for value in values))
    return "\n".join(lines)


def as_record(listening: Listening) -> dict[str, object]:
    """Return the percentages as listening.json holds them; `deaf` is without audio, `other` with another clip's."""
    overall = {"own": listening.own, "deaf": listening.majority, "other": listening.shuffled}
    numbers = {name: _percent(measures[0], listening.clips) for name, measures in overall.items()}
    return {**numbers, "by_type": _by_type(listening), "n": len(listening.clips)}


def _percent(measure: Measure, clips: Sequence[str]) -> dict[str, float]:
    interval = measure.interval(clips)
    return {"value": 100 * measure.value(), "low": 100 * interval.low, "high": 100 * interval.high}


def _by_type(listening: Listening) -> dict[str, tuple[float, ...]]:
    """Question type → percentages with its own audio, without audio and with another clip's."""
    columns = zip(listening.own[1:], listening.majority[1:], listening.shuffled[1:], strict=True)
    shares = {row[0].name.removeprefix("exact_"): tuple(100 * one.value() for one in row) for row in columns}
    return dict(sorted(shares.items()))
