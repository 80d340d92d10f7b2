"""The answers of a long job on disk: one JSONL file, with a part beside it for each process while the job runs.

Each answer is written as soon as it is there, so that a kill loses none of them; the next run gathers the parts and
goes on from there. A part is locked while its process lives, so that no run takes another's answers away.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from descant.answering.listener import Answer
from descant.files import JsonLines, Record, gather, hold_lock


def read_log(log: Path) -> list[Record]:
    """Read the log and all its parts: the last record of each id, without the half line that a kill leaves.

    Raises ValueError where another run is writing, or for a file that holds something else.
    """
    records: dict[str, Record] = {}
    for path in [log, *_free_parts(log)]:
        # The log is written in one step, so that a line that cannot be read is somebody else's; a part may be torn.
        for record in JsonLines(path).read(whole=path == log):
            _check_answer(record, path)
            records[record["id"]] = record
    return list(records.values())


def _check_answer(record: Record, path: Path) -> None:
    try:
        if Answer(**record).id:
            return
    except TypeError:
        pass
    raise ValueError(f"{path}: a line is no answer; give another --output, or move this file away")


def write_log(log: Path, records: Iterable[Record]) -> None:
    """Write the whole log in one step, and remove the parts that it now holds."""
    JsonLines(log).write(records)
    for part in _free_parts(log):
        part.unlink()


def write_part(log: Path, process: int, answers: Iterable[tuple[int, Answer]], show: Callable[[Answer], None]) -> None:
    """Append answers to a process's part of the log as they come, each before it is shown."""
    part = JsonLines(log.with_name(f"{log.name}.part-{process}"))
    with hold_lock(part.path, _busy(part.path)):
        for _, answer in answers:
            part.append(answer.to_record())  # out of this process: a kill no longer loses it
            show(answer)


def _free_parts(log: Path) -> list[Path]:
    """List the log's parts; raise ValueError where one is being written."""
    parts = sorted(path for path in log.parent.glob("*.part-*") if path.name.startswith(f"{log.name}.part-"))
    for part in parts:
        with hold_lock(part, _busy(part), shared=True):  # all processes of a run look at once
            pass
    return parts


def _busy(part: Path) -> str:
    return f"{part}: another run writes here; wait for its end, or give another --output"


GIVEN = ("prediction", "score", "error")


class AnswerLog:
    """What one model gave under one condition, by the answer's id and the hash of the features that were heard.

    It lies in `<folder>/.answers-<condition>-<fingerprint>/`: answers of other weights, or about other audio, are
    never taken for this model's. Of an answer only what the model gave is kept: the rest is the dataset's.
    """

    def __init__(self, folder: Path, condition: str, fingerprint: str, process: int = 0) -> None:
        self.folder = folder / f".answers-{condition}-{fingerprint}"
        self.part = JsonLines(self.folder / f"part-{process}.jsonl")
        self.known = read_parts(self.folder)

    def append(self, answers: Iterable[Answer], heard: Iterable[str]) -> None:
        """Keep the answers of one chunk with the hash of what each is about, on disk before it returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = [
            {"id": one.id, "heard": sound, "prediction": one.prediction, "score": one.score, "error": one.error}
            for one, sound in zip(answers, heard, strict=True)
        ]
        self.part.append(*kept, sync=True)

    def refresh(self) -> None:
        """Take note of what other processes kept."""
        self.known = read_parts(self.folder)


def read_parts(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return prediction, score and error by (id, hash of what was heard); an answer stands before an error."""
    known: dict[tuple[str, str], dict[str, Any]] = {}
    for record in gather(folder, "part-*.jsonl"):
        if record.keys() >= {"id", "heard"}:
            given = {name: record.get(name) for name in GIVEN}
            key = record["id"], record["heard"]
            known[key] = given if not given["error"] else known.get(key, given)
    return known
