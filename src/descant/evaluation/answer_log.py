"""Answers kept while they are made, so that a killed evaluation goes on and a second one need not ask again."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from descant.inference.answers import Answer
from descant.whole_files import write_whole

GIVEN = ("prediction", "score")


class AnswerLog:
    """What one model gave under one condition, by the answer's id and the hash of the features that were heard.

    It lies in `<folder>/.answers-<condition>-<fingerprint>/`: answers of other weights, or about other audio, are
    never taken for this model's. Of an answer only what the model gave is kept: the rest is the dataset's.
    """

    def __init__(self, folder: Path, condition: str, fingerprint: str, process: int = 0) -> None:
        self.folder = folder / f".answers-{condition}-{fingerprint}"
        self.part = self.folder / f"part-{process}.jsonl"
        self.known = read_parts(self.folder)

    def append(self, answers: Iterable[Answer], heard: Iterable[str]) -> None:
        """Keeps the answers of one chunk with the hash of what each is about, on disk before it returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = [
            {"id": one.id, "heard": sound, "prediction": one.prediction, "score": one.score}
            for one, sound in zip(answers, heard, strict=True)
        ]
        with self.part.open("a", encoding="utf-8") as file:
            file.write("\n")  # ends a line that a kill tore
            file.writelines(json.dumps(one, ensure_ascii=False) + "\n" for one in kept)
            file.flush()
            os.fsync(file.fileno())

    def refresh(self) -> None:
        """Sees what other processes kept."""
        self.known = read_parts(self.folder)


def read_parts(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Prediction and score by (id, hash of what was heard); lines that a kill tore are left out."""
    known = {}
    for part in sorted(folder.glob("part-*.jsonl")):
        # Not splitlines(): JSON holds U+2028 and its like as they are.
        for line in part.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                record = json.loads(line)
                known[record["id"], record["heard"]] = {name: record[name] for name in GIVEN}
            except (ValueError, KeyError, TypeError):
                continue
    return known


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes a .jsonl file whole or not at all."""
    write_whole(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
