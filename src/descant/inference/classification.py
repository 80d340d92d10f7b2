"""What was found out about one recording: its labels, what they rest on, or why there are none; a line of JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from descant.data.audio import format_stamp
from descant.inference.track_parts import Piece


@dataclass(frozen=True)
class Evidence:
    """A piece of the track and by how much the label's probability falls without it."""

    piece: Piece
    drop: float

    def describe(self) -> str:
        """One line: the fall in points, the kind, where, and the words."""
        stamps = ", ".join(format_stamp(*span) for span in join_neighbours(self.piece.spans))
        text = " / ".join((self.piece.text or "").splitlines())
        parts = [f"{-100 * self.drop:+.1f}", self.piece.kind, stamps, self.piece.question, text]
        return "  ".join(" ".join(part.split()) for part in parts if part)


def join_neighbours(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans in order, those that follow on each other as one."""
    joined: list[tuple[float, float]] = []
    for start_s, end_s in spans:
        if joined and joined[-1][1] == start_s:
            joined[-1] = (joined[-1][0], end_s)
        else:
            joined.append((start_s, end_s))
    return joined


@dataclass(frozen=True)
class NamedLabel:
    """A genre, or a subgenre by its full name, with its probability and the pieces on which it rests most."""

    label: str
    score: float
    evidence: Sequence[Evidence] = ()


@dataclass(frozen=True)
class Classification:
    """All about one recording. One that cannot be classified has an `error`, and neither labels nor scores.

    labels: the named ones, genres first, the likeliest first. scores: every label → probability. read: which of
    lyrics, captions and audio there were. notes: what was done to them, and what is missing and why.
    """

    audio: str
    model: str
    captioner: str | None = None
    labels: Sequence[NamedLabel] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    read: Sequence[str] = ()
    notes: Sequence[str] = ()
    error: str | None = None

    def to_json(self) -> str:
        record = asdict(self)
        for label in record["labels"]:
            label["evidence"] = [one["piece"] | {"drop": one["drop"]} for one in label["evidence"]]
        return json.dumps(record, ensure_ascii=False)

    def to_text(self) -> str:
        """A line for the recording, one for each label, one for each piece below it."""
        lines = [f"{self.audio}  (from {', '.join(self.read)})"]
        for label in self.labels:
            lines.append(f"  {100 * label.score:.1f} %  {label.label}")
            lines += [f"      {evidence.describe()}" for evidence in label.evidence]
        return "\n".join(lines)
