"""The answers of a long job on disk: one JSONL file, with a part beside it for each process while the job runs.

Each answer is written as soon as it is there, so that a kill loses none of them; the next run gathers the parts and
goes on from there. A part is locked while its process lives, so that no run takes another's answers away.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from descant.file_lock import hold_lock
from descant.inference.answers import Answer
from descant.whole_files import write_whole

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
