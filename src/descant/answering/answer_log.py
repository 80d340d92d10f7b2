"""The answers of a long job on disk: those of questions about a folder, and those of an evaluation."""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from descant.answering.answers import Answer
from descant.files import JobLog, JsonLines, Record, gather


def read_log(log: Path, given: Collection[str] = ()) -> list[Record]:
    """Read the log and all its parts, see `JobLog.read`; raise BrokeOff where one of these ids is not there."""
    return _job_log(log).read_whole(given)


def write_log(log: Path, records: Iterable[Record]) -> None:
    """Write the whole log in one step, and remove the parts that it now holds."""
    _job_log(log).write(records)


def write_part(log: Path, process: int, answers: Iterable[tuple[int, Answer]], show: Callable[[Answer], None]) -> None:
    """Append answers to a process's part of the log as they come, each before it is shown."""
    with _job_log(log).part(process) as part:
        for _, answer in answers:
            part.append(answer.to_record())  # out of this process: a kill no longer loses it
            show(answer)


def _job_log(log: Path) -> JobLog:
    return JobLog(log, "id", _is_answer, "answer")


def _is_answer(record: Record) -> bool:
    try:
        return bool(Answer(**record).id)
    except TypeError:
        return False


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
