"""Does the model listen? Exact answers with the right audio, with other clips' audio, and without any."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from transformers import PreTrainedModel, ProcessorMixin

from descant.data.annotations import Row
from descant.data.collator import FeatureReader
from descant.evaluation.answering import answer_rows
from descant.evaluation.bootstrap import bootstrap_interval
from descant.evaluation.exact import exact_answer, majority_answers
from descant.evaluation.grounding import derangement

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
