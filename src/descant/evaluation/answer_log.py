"""Answers kept while they are made, so that a killed evaluation goes on and a second one need not ask again."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from descant.inference.answers import Answer
from descant.whole_files import write_whole


class AnswerLog:
    """The answers of one model under one condition, by id.

    They lie in `<folder>/.answers-<condition>-<fingerprint>/`: answers of other weights are never taken for this
    model's.
    """

    def __init__(self, folder: Path, condition: str, fingerprint: str, process: int = 0) -> None:
        self.folder = folder / f".answers-{condition}-{fingerprint}"
        self.part = self.folder / f"part-{process}.jsonl"
        self.known = read_parts(self.folder)

    def append(self, answers: Iterable[Answer]) -> None:
        """Keeps the answers of one chunk, on disk before it returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.part.open("a", encoding="utf-8") as file:
            file.write("\n")  # ends a line that a kill tore
            file.writelines(answer.to_json() + "\n" for answer in answers)
            file.flush()
            os.fsync(file.fileno())

    def refresh(self) -> None:
        """Sees what other processes kept."""
        self.known = read_parts(self.folder)


def read_parts(folder: Path) -> dict[str, dict[str, Any]]:
    """Answers by id; lines that a kill tore are left out."""
    known = {}
    for part in sorted(folder.glob("part-*.jsonl")):
        for line in part.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
                known[record["id"]] = record
            except (ValueError, KeyError, TypeError):
                continue
    return known


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes a .jsonl file whole or not at all."""
    write_whole(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
