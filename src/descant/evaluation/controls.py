"""What a model hears and is asked in each audio control: another clip, noise, silence, or no question.

A score that a model keeps without the right audio comes from the question and from what answers usually say.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

import numpy as np
from transformers import FeatureExtractionMixin, PreTrainedModel, ProcessorMixin

from descant.answering.listener import answer_rows
from descant.data.annotations import Row
from descant.data.collator import FeatureReader
from descant.evaluation.exact import exact_answer, majority_answers
from descant.evaluation.measures import Difference, Measure, bootstrap_interval, compare


def derangement(clip_ids: Iterable[str], seed: int) -> dict[str, str]:
    """Maps every clip to another one, each used once and none kept (Sattolo's algorithm, 1986: one random cycle)."""
    clips = list(dict.fromkeys(clip_ids))
    if len(clips) < 2:
        raise ValueError(f"a derangement needs two clips or more, got {clips}: shuffle a larger split")
    rng, heard = np.random.default_rng(seed), clips.copy()
    for last in range(len(clips) - 1, 0, -1):
        other = rng.integers(last)
        heard[last], heard[other] = heard[other], heard[last]
    return dict(zip(clips, heard, strict=True))


CONTROLS = ("shuffled", "noise", "silence", "no_question")
NOISE_RMS = 0.1  # -20 dBFS, as loud as music


class HashedFeatures(FeatureReader, Protocol):
    """Features of which each clip's have a hash, as in a feature store."""

    def feature_sha256(self, clip_id: str) -> str: ...


@dataclass(frozen=True)
class Condition:
    """One way to answer all questions; `own` is the model as it is used."""

    name: str
    features: HashedFeatures
    heard: Mapping[str, str] = field(default_factory=dict)  # clip → the clip heard in its place
    asks: bool = True

    def read(self, clip_id: str) -> np.ndarray:
        """The features (bands, frames) that stand for a clip."""
        return self.features.read(self.heard.get(clip_id, clip_id))

    def heard_hash(self, clip_id: str) -> str:
        """Hash of those features: an answer about others says nothing of these."""
        return self.features.feature_sha256(self.heard.get(clip_id, clip_id))


@dataclass(frozen=True)
class Noise:
    """White noise at −20 dBFS in the place of every clip, seeded by the clip's id."""

    extractor: FeatureExtractionMixin

    def read(self, clip_id: str, out: np.ndarray | None = None) -> np.ndarray:
        """Features (bands, frames)."""
        seed = int.from_bytes(hashlib.sha256(clip_id.encode()).digest()[:8], "big")
        noise = np.random.default_rng(seed).normal(scale=NOISE_RMS, size=self.extractor.num_samples)
        return np.asarray(self.extractor.extract_mel(noise.astype(np.float32)))

    def feature_sha256(self, clip_id: str) -> str:
        """A word for a hash: the clip's id and the model's extractor decide the noise."""
        return "noise"


@dataclass(frozen=True)
class Silence:
    """Digital silence in the place of every clip."""

    extractor: FeatureExtractionMixin

    def read(self, clip_id: str, out: np.ndarray | None = None) -> np.ndarray:
        """Features (bands, frames)."""
        return np.asarray(self.extractor.extract_mel(np.zeros(self.extractor.num_samples, dtype=np.float32)))

    def feature_sha256(self, clip_id: str) -> str:
        """A word for a hash: the model's extractor decides the silence."""
        return "silence"


def make_conditions(
    features: HashedFeatures, extractor: FeatureExtractionMixin, clips: Iterable[str], asked: bool, seed: int = 0
) -> list[Condition]:
    """Every control; the one without a question only where questions are `asked`."""
    conditions = [
        Condition("shuffled", features, heard=derangement(clips, seed)),
        Condition("noise", Noise(extractor)),
        Condition("silence", Silence(extractor)),
    ]
    return [*conditions, Condition("no_question", features, asks=False)] if asked else conditions


# Only these measure agreement with the references; lengths and vocabularies say nothing of listening.
QUALITY = ("bleu", "meteor", "rougeL", "bertscore", "exact")
DEAF = ("shuffled", "noise", "silence", "majority")  # conditions under which only the text can be known
SMALL_SHARE = 0.1


def measure_gaps(
    own: Sequence[Measure], controls: Mapping[str, Sequence[Measure]], clips: Sequence[str]
) -> dict[str, dict[str, Difference]]:
    """For each control and score: control (first), own (second), and the gap own − control with its interval."""
    gaps = {}
    for name, measures in controls.items():
        known = {measure.name: measure for measure in measures if measure.name.startswith(QUALITY)}
        ours = [measure for measure in own if measure.name in known]
        found = compare([known[measure.name] for measure in ours], ours, clips)
        gaps[name] = {difference.name: difference for difference in found}
    return gaps


def explain_gaps(gaps: Mapping[str, Mapping[str, Difference]]) -> list[str]:
    """A sentence for each score, on the control that comes closest to the model's own score."""
    scores = dict.fromkeys(score for control in gaps.values() for score in control if not score.startswith("exact_"))
    sentences = []
    for score in scores:
        rivals = [(gaps[name][score], name) for name in DEAF if score in gaps.get(name, {})]
        if rivals:
            closest, name = max(rivals, key=lambda rival: rival[0].first)
            sentences.append(explain_gap(closest, name))
    return sentences


def explain_gap(gap: Difference, control: str) -> str:
    """Whether a score is explained by text alone."""
    without = {
        "shuffled": "another clip's audio", "noise": "noise", "silence": "silence",
        "majority": "no audio at all (the commonest answer of each question type)",
    }[control]  # fmt: skip
    if gap.second <= 0:
        return f"{gap.name} is 0 with the right audio: there is nothing to explain."
    size = gap.second - gap.first
    told = f"{gap.second:.3f} with the right audio, {gap.first:.3f} with {without}, a gap of {size:.3f}"
    told += f" [{gap.interval.low:.3f}, {gap.interval.high:.3f}]"
    if gap.interval.low <= 0:
        return f"{gap.name} is explained by text alone: {told}."
    if size < SMALL_SHARE * gap.second:
        return f"{gap.name} is nearly explained by text alone: {told}, {size / gap.second:.0%} of the score."
    return f"{gap.name} depends on the audio: {told}, {size / gap.second:.0%} of the score."


CLOSED_TYPES = (
    "genre", "subgenre", "tempo_class", "instruments", "lead_instrument", "drums", "bass", "mood", "metre",
)  # fmt: skip


@dataclass(frozen=True)
class Accuracy:
    """A percentage and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ListeningReport:
    """Exact-answer accuracies in percent over closed questions, with 95 % intervals (bootstrap by clip).

    `own`: every question hears its clip; `deaf`: the most frequent answer of its question type in train; `other`: it
    hears another clip (seeded derangements by clip, averaged). `by_type` holds the three for each question type.
    """

    own: Accuracy
    deaf: Accuracy
    other: Accuracy
    by_type: dict[str, tuple[float, float, float]]
    answers: list[str]
    rows: list[Row]


def closed_rows(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.question_type in CLOSED_TYPES]


def measure_listening(
    model: PreTrainedModel, processor: ProcessorMixin, rows: Sequence[Row], train_rows: Sequence[Row],
    features: FeatureReader, *, derangements: int = 5, seed: int = 0, batch_size: int = 128,
) -> ListeningReport:  # fmt: skip
    """Answer the closed questions among `rows` greedily, `1 + derangements` times."""
    rows = closed_rows(rows)
    answers = answer_rows(model, processor, rows, features, batch_size=batch_size, progress="own audio", num_beams=1)
    own = _correct(rows, answers)
    fixed = majority_answers(closed_rows(train_rows))
    deaf = _correct(rows, [fixed[row.question_type] for row in rows])
    other = np.mean(
        [
            _correct(rows, answer_rows(
                model, processor, rows, features, heard=derangement((row.clip_id for row in rows), seed + number),
                batch_size=batch_size, progress=f"other audio {number + 1}/{derangements}", num_beams=1,
            ))
            for number in range(derangements)
        ],
        axis=0,
    )  # fmt: skip
    clips = [row.clip_id for row in rows]
    accuracies = [
        Accuracy(float(values.mean()), *bootstrap_interval(values, clips, seed=seed)) for values in (own, deaf, other)
    ]
    return ListeningReport(*accuracies, _by_type(rows, own, deaf, other), answers, rows)


def _correct(rows: Sequence[Row], answers: Sequence[str]) -> np.ndarray:
    """100.0 or 0.0 a row, so that means are percentages."""
    return np.array(
        [
            100.0 * exact_answer(answer, row.answer, row.question_type)
            for row, answer in zip(rows, answers, strict=True)
        ]
    )


def _by_type(rows: Sequence[Row], *scores: np.ndarray) -> dict[str, tuple[float, float, float]]:
    kinds = np.array([row.question_type for row in rows])
    return {kind: tuple(float(score[kinds == kind].mean()) for score in scores) for kind in sorted(set(kinds))}


def format_listening(report: ListeningReport, title: str) -> str:
    """The report as lines for a terminal."""
    lines = [f"{title}: exact answers to {len(report.rows)} closed questions (percent, 95 % interval by clip)"]
    names = ("model, own audio", "best answer without audio", "model, another clip's audio")
    for name, one in zip(names, (report.own, report.deaf, report.other), strict=True):
        lines.append(f"  {name:30} {one.value:5.1f}  [{one.low:.1f}, {one.high:.1f}]")
    lines.append(f"  {'by question type':30} {'own':>6} {'none':>6} {'other':>6}")
    for kind, values in report.by_type.items():
        lines.append(f"    {kind:28} " + " ".join(f"{value:6.1f}" for value in values))
    return "\n".join(lines)


def as_dict(report: ListeningReport) -> Mapping[str, object]:
    """The numbers of a report, for `scores.json`."""
    numbers = {name: asdict(getattr(report, name)) for name in ("own", "deaf", "other")}
    return {**numbers, "by_type": report.by_type, "n": len(report.rows)}
