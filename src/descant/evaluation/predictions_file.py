"""Predictions with their references, read from answers.jsonl or from the JSON files that papers publish."""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from descant.data.tables import (
    AnnotationError,
    Problem,
    Record,
    name_problem,
    read_json_lines,
    read_json_records,
    read_table,
)
from descant.files import read_regular

PREDICTION = ("prediction", "predictions")
REFERENCES = ("references", "reference", "ground_truth", "true_captions")
CLIP = ("clip_id", "audio_id", "ytid", "fname", "audio")
CAPTION = ("caption", "caption_ground_truth", "answer", *REFERENCES)
HELD_OUT = {"is_audioset_eval": {"true", "1"}, "split": {"test", "validation", "eval"}}


@dataclass(frozen=True)
class Item:
    """A prediction and what it is compared with; `clip` is the item's number where the file names no clip."""

    prediction: str
    references: tuple[str, ...]
    clip: str
    start_s: float | None = None
    question: str | None = None
    question_type: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class Items:
    """The good items of a file in its order, and each record that was left out."""

    items: list[Item] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Texts:
    """Training texts, and each record that was left out."""

    texts: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read_items(path: str | Path) -> Items:
    """Read a .jsonl file, or a .json file holding a list of records or an object of them.

    A record needs a prediction (`prediction` or `predictions`) and a reference (`references`, `reference`,
    `ground_truth` or `true_captions`), each a text; a reference may also be a list of texts. A record whose `error` is
    set, that lacks one of them, or that has another type in one of its fields, becomes a problem.

    Raises:
        AnnotationError: the file cannot be read, or holds no records.
    """
    result, path = Items(), Path(path)
    for row, record in read_json_lines(path) if path.suffix.lower() == ".jsonl" else read_json_records(path):
        if isinstance(record, Problem):
            result.problems.append(record)
            continue
        try:
            result.items.append(read_item(record, row))
        except Exception as error:  # whatever one record does, the others are read
            name = first_value(record, CLIP) if isinstance(record, dict) else None
            result.problems.append(name_problem(path, row, name, error))
    return result


def read_item(record: Any, row: int) -> Item:
    """Return one record as an item; ValueError says what it lacks."""
    if not isinstance(record, dict):
        raise ValueError("is not a JSON object (a file of lines ends in .jsonl)")
    if record.get("error"):
        raise ValueError(f"was not answered: {record['error']}")
    predictions, references = texts_of(record, PREDICTION), texts_of(record, REFERENCES)
    if len(predictions) != 1:
        raise ValueError(f"has {len(predictions)} predictions; give one as {' or '.join(PREDICTION)}")
    if not references:
        raise ValueError(f"has no reference; give it as {', '.join(REFERENCES)}")
    return Item(
        predictions[0], tuple(references), clip_of(record) or f"#{row}", seconds_of(record, "start_s"),
        text_of(record, "question"), text_of(record, "question_type"), text_of(record, "model"),
    )  # fmt: skip


def first_value(record: Record, names: Iterable[str]) -> object:
    """Return the first value that the record has under these names."""
    return next((record[name] for name in names if record.get(name) is not None), None)


def texts_of(record: Record, names: tuple[str, ...]) -> list[str]:
    """Return the text, or the texts, under the first of these names that the record has."""
    value = first_value(record, names)
    values = value if isinstance(value, list) else [] if value is None else [value]
    texts = [text for text in values if isinstance(text, str)]
    if len(texts) < len(values):
        raise ValueError(f"{' or '.join(names)} is not a text or a list of texts")
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        raise ValueError(f"{' or '.join(names)} is not UTF-8 text")
    return texts


def clip_of(record: Record) -> str | None:
    """Return the clip's name, a text or a number, under the first name that the record has."""
    value = first_value(record, CLIP)
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int | float)):
        raise ValueError(f"{' or '.join(CLIP)} is {type(value).__name__}, not text")
    return None if value is None else str(value)


def text_of(record: Record, name: str) -> str | None:
    """Return the text of a field, None where it is absent; ValueError for another type."""
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is {type(value).__name__}, not text")
    return value


def seconds_of(record: Record, name: str) -> float | None:
    """Return the seconds in a field, None where it is absent; ValueError for what is no finite number."""
    value = record.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r:.50}, not seconds")
    return value


def read_train_references(path: str | Path) -> Texts:
    """Read the texts that a model was trained on: a line each of a .txt file, or the captions of a table.

    Rows that a column marks as held out (`is_audioset_eval`, `split`) are left out.

    Raises:
        AnnotationError: the file cannot be read, or holds no training text.
    """
    if Path(path).suffix.lower() == ".txt":
        return Texts([line for line in _read_lines(path) if line.strip()])
    result = Texts()
    for row, record in read_table(path).select([frozenset({name}) for name in CAPTION]):
        try:
            if isinstance(record, Problem):
                result.problems.append(record)
            elif not is_held_out(record):
                result.texts.extend(texts_of(record, CAPTION))
        except Exception as error:  # whatever one record does, the others are read
            result.problems.append(name_problem(path, row, None, error))
    if not result.texts:
        reason = f": {result.problems[0]}" if result.problems else f"; give them as {', '.join(CAPTION)}"
        raise AnnotationError(f"{path}: holds no training texts{reason}")
    return result


def _read_lines(path: str | Path) -> list[str]:
    try:
        text = read_regular(path).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise AnnotationError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def is_held_out(record: Record) -> bool:
    """Return whether the record belongs to a test or validation split."""
    return any(str(record.get(column)).lower() in marks for column, marks in HELD_OUT.items())


def pair_items(first: Iterable[Item], second: Iterable[Item]) -> tuple[list[tuple[Item, Item]], list[Item]]:
    """Return pairs of items about the same clip, second and question, and the items that one side lacks.

    Raises:
        ValueError: a pair's references differ, so the systems were not asked the same.
    """
    waiting: defaultdict[Hashable, list[Item]] = defaultdict(list)
    for item in second:
        waiting[item.clip, item.start_s, item.question].append(item)
    pairs, single = [], []
    for item in first:
        matches = waiting[item.clip, item.start_s, item.question]
        if not matches:
            single.append(item)
            continue
        other = matches.pop(0)
        if item.references != other.references:
            raise ValueError(f"{item.clip}: the two files give different references, so they cannot be compared")
        pairs.append((item, other))
    return pairs, single + [item for items in waiting.values() for item in items]
