"""Reads predictions with their references: answers.jsonl, or the JSON files that papers publish."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from descant.data.tables import AnnotationError, Problem, Record, read_table

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


def read_items(path: str | Path) -> Items:
    """Reads a .jsonl file, or a .json file holding a list of records or an object of them.

    A record needs a prediction (`prediction` or `predictions`) and a reference (`references`, `reference`,
    `ground_truth` or `true_captions`), each a text; a reference may also be a list of texts. A record whose `error` is
    set, or that lacks one of them, becomes a problem.
    """
    found = Items()
    for row, record in numbered_records(Path(path)):
        try:
            found.items.append(read_item(record, row))
        except ValueError as error:
            clip = text_of(record, CLIP) if isinstance(record, dict) else None
            found.problems.append(Problem(str(path), row, clip, str(error)))
    return found


def numbered_records(path: Path) -> Iterable[tuple[int, Any]]:
    """(line or 1-based position, record); a line that is not JSON comes as its text."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".jsonl":
            return [(row, parse_line(line)) for row, line in enumerate(text.split("\n"), 1) if line.strip()]
        loaded = json.loads(text)
    except (OSError, ValueError) as error:
        raise AnnotationError(f"{path}: cannot be read as JSON: {error}") from error
    if isinstance(loaded, dict):
        loaded = list(loaded.values())
    if not isinstance(loaded, list):
        raise AnnotationError(f"{path}: holds {type(loaded).__name__}; give a list of records or an object of them")
    return enumerate(loaded, 1)


def parse_line(line: str) -> Any:
    """A line's record, or the line itself where it is not JSON."""
    try:
        return json.loads(line)
    except ValueError:
        return line


def read_item(record: Any, row: int) -> Item:
    """One record as an item; ValueError says what it lacks."""
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
        predictions[0], tuple(references), text_of(record, CLIP) or f"#{row}", record.get("start_s"),
        record.get("question"), record.get("question_type"), record.get("model"),
    )  # fmt: skip


def texts_of(record: Record, names: tuple[str, ...]) -> list[str]:
    """The text, or the texts, under the first of these names that the record has."""
    value = next((record[name] for name in names if record.get(name) is not None), [])
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{' or '.join(names)} is not a text or a list of texts")
    return texts


def text_of(record: Record, names: tuple[str, ...]) -> str | None:
    """The first value that the record has under these names, as text."""
    return next((str(record[name]) for name in names if record.get(name) is not None), None)


def read_train_references(path: str | Path) -> list[str]:
    """The texts that a model was trained on: a line each of a .txt file, or the captions of a .csv, .json or .jsonl.

    Rows that a column marks as held out (`is_audioset_eval`, `split`) are left out.
    """
    if Path(path).suffix.lower() == ".txt":
        return [line for line in Path(path).read_text(encoding="utf-8").split("\n") if line.strip()]
    records = [record for _, record in read_table(path, [{name} for name in CAPTION]) if isinstance(record, dict)]
    texts = [text for record in records if not is_held_out(record) for text in texts_of(record, CAPTION)]
    if not texts:
        raise AnnotationError(f"{path}: holds no training texts; give them as {', '.join(CAPTION)}")
    return texts


def is_held_out(record: Record) -> bool:
    """Whether the record belongs to a test or validation split."""
    return any(str(record.get(column)).lower() in marks for column, marks in HELD_OUT.items())
