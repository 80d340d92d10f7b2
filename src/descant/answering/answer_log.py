"""The answers of a long job on disk: one JSONL file, with a part beside it for each process while the job runs.

Each answer is written as soon as it is there, so that a kill loses none of them; the next run gathers the parts and
goes on from there. A part is locked while its process lives, so that no run takes another's answers away.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from descant.answering.listener import Answer
from descant.files import hold_lock, write_whole

Record = dict[str, Any]


def gather(log: Path) -> list[Record]:
    """Reads the log and all its parts: the last record of each id, without the half line that a kill leaves.

    Raises ValueError where another run is writing, or for a file that holds something else.
    """
    records: dict[str, Record] = {}
    for path in [log, *_free_parts(log)]:
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        for number, line in enumerate(lines, start=1):
            record = _parse(line, path, number)
            records[record["id"]] = record
    return list(records.values())


def _parse(line: bytes, path: Path, number: int) -> Record:
    try:
        record = json.loads(line)
        if Answer(**record).id:
            return record
    except (ValueError, TypeError):
        pass
    raise ValueError(f"{path}: line {number} is no answer; give another --output, or move this file away")


def write_log(log: Path, records: Iterable[Record]) -> None:
    """Writes the whole log in one step, and removes the parts that it now holds."""
    write_whole(log, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    for part in _free_parts(log):
        part.unlink()


def write_part(log: Path, process: int, answers: Iterable[tuple[int, Answer]], show: Callable[[Answer], None]) -> None:
    """Appends answers to a process's part of the log as they come, each before it is shown."""
    part = log.with_name(f"{log.name}.part-{process}")
    with hold_lock(part, _busy(part)), part.open("a", encoding="utf-8", errors="surrogateescape") as file:
        for _, answer in answers:
            file.write(answer.to_json() + "\n")
            file.flush()  # out of this process: a kill no longer loses it
            show(answer)


def _free_parts(log: Path) -> list[Path]:
    """The log's parts; raises ValueError where one is being written."""
    parts = sorted(path for path in log.parent.glob("*.part-*") if path.name.startswith(f"{log.name}.part-"))
    for part in parts:
        with hold_lock(part, _busy(part), shared=True):  # all processes of a run look at once
            pass
    return parts


def _busy(part: Path) -> str:
    return f"{part}: another run writes here; wait for its end, or give another --output"


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
