"""One answer to one question about one window of a recording: the record, its id, its line of JSON."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Answer:
    """A line of answers.jsonl. A file that cannot be read has one, with `error` and without a window and prediction.

    start_s, end_s: seconds. score: length-normalised log-probability of the prediction. generation: all settings that
    decide the answer.
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

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


def answer_id(audio: str, start_s: float | None, question: str | None, generation: Mapping[str, Any]) -> str:
    """The key by which a second run knows an answer that it has: sha1, in hexadecimal."""
    key = json.dumps([audio, start_s, question, generation], sort_keys=True, ensure_ascii=False)
    return hashlib.sha1(key.encode("utf-8", "surrogateescape")).hexdigest()


def in_order(numbered: Iterable[tuple[int, Item]]) -> Iterator[Item]:
    """Gives items, numbered from 0 and in any order, in the order of their numbers; early ones are held back."""
    early: dict[int, Item] = {}
    following = 0
    for number, item in numbered:
        early[number] = item
        while following in early:
            yield early.pop(following)
            following += 1
