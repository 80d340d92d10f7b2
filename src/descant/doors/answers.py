"""What the page, its API and its tools are answered: typed, and as JSON where only text goes."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

Spans = list[list[float]]  # [start_s, end_s], …


class Shown:
    """An answer that writes itself as JSON: what a tool's caller reads, who gets no object."""

    def __str__(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)  # type: ignore[call-overload]  # every one is a dataclass


@dataclass(frozen=True)
class Answered(Shown):
    """The answer to a question, as `descant ask` gives it, and what it rests on.

    sure, probability, probabilities: of a question of a trained type, for each option. confidence: of any other, the
    share of the windows' weights. windows, of, heard: how many windows say so of how many, and their seconds.
    """

    question: str
    answer: str
    sure: bool | None = None
    probability: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    confidence: float | None = None
    windows: int | None = None
    of: int | None = None
    heard: Spans = field(default_factory=list)


@dataclass(frozen=True)
class Decided(Shown):
    """The answer to a question with given options, as `descant decide` gives it; reason: why nothing is answered."""

    question: str
    option: str
    probability: float
    sure: bool
    probabilities: dict[str, float]
    heard: Spans
    reason: str | None = None


@dataclass(frozen=True)
class Described(Shown):
    """The description of a track, by the schema that `descant describe --schema` prints."""

    audio: str
    duration_s: float
    caption: dict[str, Any] | None
    decisions: dict[str, Any]
    measured: dict[str, Any] | None
    model: str


@dataclass(frozen=True)
class Track:
    """A track as the page shows it: its length, the windows that are heard, a picture of its spectrum (PNG)."""

    duration_s: float
    heard: Spans
    picture: bytes
