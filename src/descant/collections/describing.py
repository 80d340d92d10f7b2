"""Descriptions of whole folders: a job that goes on after a kill, and says at its end whether the model listened."""

import csv
import io
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from descant.collections.engines import Load, OneProcess
from descant.collections.facts import CHOSEN, COLUMNS, is_description, read_fact, to_row, write_text
from descant.collections.sidecars import Sidecars
from descant.files import JobLog, JsonLines, Record, escape_formula, replace_whole, write_whole
from descant.program import describe_os_error, say

LEAST_SONGS = 5  # that answered a question, for a sentence about what the answers depend on
HARDLY = 0.1  # by so little the probability of an answer falls, at most, where the sound hardly matters


@dataclass(frozen=True)
class Job:
    """What is written, and how.

    output: .jsonl, or .csv or .parquet with the .jsonl beside it. settings: of the model, which make descriptions
    comparable: a log of others is refused. kinds: of files beside the songs, see `Sidecars`.
    """

    output: Path
    settings: Record
    style: str = "long"
    kinds: frozenset[str] = frozenset()
    overwrite: bool = False

    @property
    def log(self) -> Path:
        """The JSONL file that holds all descriptions."""
        return self.output.with_suffix(".jsonl")

    @property
    def failed(self) -> Path:
        """The ledger of songs that could not be described: audio and error."""
        return self.output.with_suffix(".failed.jsonl")


@dataclass
class Outcome:
    """What came of a job: counts of songs, how fast, and a sentence about what the answers depend on."""

    songs: int
    known: int = 0
    described: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    left_alone: int = 0
    songs_a_minute: float | None = None
    dependence: str | None = None

    def to_record(self) -> Record:
        """Return the outcome as JSON holds it, failures as their number."""
        return {**vars(self), "failed": len(self.failed)}


def describe_songs(songs: Sequence[str], load: Load, job: Job, engine: OneProcess | None = None) -> Outcome:
    """Describe what is not described yet, write all that the job asks for, and return what came of it.

    Args:
        songs: their names in the output.
        load: loads the model and returns what describes a song by its name; called where anything is left to describe.
        job: what is written.
        engine: who describes; by default this process. Of several processes, each returns what came of its share,
            and the first one of all.

    Raises ValueError for a log of another model or other settings, or one that another run writes.
    """
    engine = engine or OneProcess()
    log = JobLog(job.log, "audio", _is_record, "description")
    known = _read_known(log, job)
    engine.wait()  # until all have read, before one writes
    if engine.rank == 0:
        log.write(known.values())
    engine.wait()
    outcome = Outcome(len(songs), known=sum(song in known for song in songs))
    sidecars = Sidecars(job.output.with_suffix(".sidecars.jsonl"), job.kinds, job.style, job.overwrite)
    for song in filter(known.__contains__, songs if engine.rank == 0 else ()):
        _write_sidecars(sidecars, known[song], outcome)
    missing = [song for song in songs if song not in known]
    began = time.monotonic()
    if mine := missing[engine.rank :: engine.count]:
        with log.part(engine.rank) as part, closing(engine.run(load, mine)) as records:
            for record in show_progress(records, len(mine), began, engine.rank == 0):
                _keep_record(record, part, job, outcome, sidecars if engine.count == 1 else None)
    engine.wait()
    if engine.rank == 0:
        published = publish(log, songs, job, outcome)
        for song in missing if engine.count > 1 else ():  # by one process: two songs may share a name
            if "error" not in published[song]:
                _write_sidecars(sidecars, published[song], outcome)
        pace = 60 * outcome.described / max(time.monotonic() - began, 1e-9)
        outcome.songs_a_minute = round(pace, 2) if missing else None
    engine.wait()
    return outcome


def _keep_record(record: Record, part: JsonLines, job: Job, outcome: Outcome, sidecars: Sidecars | None) -> None:
    record |= {} if "error" in record else {"settings": job.settings, "bytes": size_of(record["audio"])}
    part.append(record)  # out of this process: a kill no longer loses it
    _account(record, outcome)
    if "error" not in record and sidecars is not None:
        _write_sidecars(sidecars, record, outcome)


def _read_known(log: JobLog, job: Job) -> dict[str, Record]:
    """Read what is described, songs whose files have another size now left out.

    Raises ValueError where it was with another model or other settings.
    """
    known = {record["audio"]: record for record in log.read() if "error" not in record}
    if any(record.get("settings") != job.settings for record in known.values()):
        raise ValueError(f"{job.log}: holds descriptions of another model or other settings; give another --output")
    return {song: record for song, record in known.items() if not _has_changed(record)}


def _has_changed(record: Record) -> bool:
    size = size_of(record["audio"])
    return None not in (size, record.get("bytes")) and size != record["bytes"]


def size_of(song: str) -> int | None:
    """Return the bytes of a song's file; None for one that is not on this machine, or no file of its own."""
    try:
        return os.stat(song).st_size
    except (OSError, ValueError):
        return None


def _is_record(record: Record) -> bool:
    return is_description(record) or record.keys() == {"audio", "error"}


def _account(record: Record, outcome: Outcome) -> None:
    """Count a record, and say on stderr why a song has no description."""
    if "error" not in record:
        outcome.described += 1
        return
    song, reason = record["audio"], record["error"]
    outcome.failed[song] = reason
    say(f"descant describe: {reason if reason.startswith(song) else f'{song}: {reason}'}")


def _write_sidecars(sidecars: Sidecars, description: Record, outcome: Outcome) -> None:
    try:
        refused = sidecars.write(description, Path(description["audio"]))
    except OSError as error:
        refused = [f"{description['audio']}: {describe_os_error(error)}"]
    outcome.left_alone += len(refused)
    for sentence in refused:
        say(f"descant describe: {sentence}")


def show_progress(records: Iterable[Record], count: int, began: float, shown: bool = True) -> Iterator[Record]:
    """Pass records on, and show how many songs are done, how many a minute, and how long the rest takes."""
    form = "{l_bar}{bar}| {n_fmt}/{total_fmt} songs [{elapsed}<{remaining}{postfix}]"
    disable = None if shown else True
    with tqdm(total=count, desc="describing", disable=disable, dynamic_ncols=True, bar_format=form) as bar:
        for done, record in enumerate(records, start=1):
            yield record
            bar.set_postfix_str(f"{60 * done / max(time.monotonic() - began, 1e-9):.1f} songs a minute", refresh=False)
            bar.update()


def publish(log: JobLog, songs: Sequence[str], job: Job, outcome: Outcome) -> dict[str, Record]:
    """Write the log in the order of the songs, the ledger of what failed and the table; raise BrokeOff for a loss.

    Returns the record of each song, and counts them in `outcome`, whichever process made them.
    """
    order = {song: number for number, song in enumerate(songs)}
    records = sorted(log.read_whole(order.keys()), key=lambda record: order.get(record["audio"], len(order)))
    good = [record | {"text": write_text(record, job.style)} for record in records if "error" not in record]
    failed = [record for record in records if "error" in record]
    if failed:
        JsonLines(job.failed).write(failed)
    else:
        job.failed.unlink(missing_ok=True)
    write_table(job.output, good, job.style)
    log.write(good)
    mine = [record for record in good if record["audio"] in order]
    outcome.described, outcome.failed = len(mine) - outcome.known, {one["audio"]: one["error"] for one in failed}
    outcome.dependence = judge_dependence(mine)
    return {record["audio"]: record for record in (*failed, *good)}


def write_table(path: Path, descriptions: Sequence[Record], style: str) -> None:
    """Write descriptions as CSV or Parquet, one row a song; a .jsonl path needs no table."""
    rows = [to_row(description, style) for description in descriptions]
    if path.suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: escape_formula(cell) for name, cell in row.items()} for row in rows)
        write_whole(path, text.getvalue())
    elif path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        numbers = {"duration_s", "bpm", "loudness_lufs"}
        schema = pyarrow.schema(
            [(name, pyarrow.float64() if name in numbers else pyarrow.string()) for name in (*COLUMNS, "description")]
        )
        whole = [row | {"description": json.dumps(one)} for row, one in zip(rows, descriptions, strict=True)]
        readable = [{name: _text(cell) for name, cell in row.items()} for row in whole]
        with replace_whole(path) as partial:
            parquet.write_table(pyarrow.Table.from_pylist(readable, schema=schema), partial)


def _text(cell: Any) -> Any:
    """Return a cell as Parquet can hold it: bytes of a name that are no UTF-8 become question marks."""
    return cell.encode("utf-8", "replace").decode() if isinstance(cell, str) else cell


# Whether the answers depend on the audio


@dataclass(frozen=True)
class Dependence:
    """How one question's answers depend on the sound.

    commonest: the answer that most songs have, and `same`, how many of `songs`. own, other: the mean probability of a
    song's answer when its own sound is played, and when each other song's is: a control with shuffled audio, whose
    answers are those of the other songs.
    """

    name: str
    commonest: str
    same: int
    songs: int
    own: float
    other: float


def measure_dependence(name: str, answers: Iterable[Record]) -> Dependence | None:
    """Return how the answers to a question depend on the sound; None where too few songs have one."""
    answered = [(fact, answer) for answer in answers if (fact := read_fact(answer)) is not None]
    if len(answered) < LEAST_SONGS:
        return None
    totals: Counter[str] = Counter()
    for _, answer in answered:
        for option, probability in answer["probabilities"].items():
            totals[answer["legend"][option] if answer["type"] == "score" else option] += probability
    own = sum(fact.probability for fact, _ in answered) / len(answered)
    others = sum(totals[fact.value] - fact.probability for fact, _ in answered)
    commonest, same = Counter(fact.value for fact, _ in answered).most_common(1)[0]
    return Dependence(name, commonest, same, len(answered), own, others / len(answered) / (len(answered) - 1))


def judge_dependence(descriptions: Sequence[Record]) -> str | None:
    """Return a sentence on whether the answers depend on the audio of this folder; None for fewer than five songs."""
    asked = [measure_dependence(name, (one["decisions"][name] for one in descriptions)) for name in CHOSEN]
    measured = [one for one in asked if one is not None]
    if not measured:
        return None
    first = measured[0]
    called = f"{first.same} of {first.songs} songs are called {first.commonest}"
    fall = f"the {first.name.replace('_class', '')} named for a song has a probability of {100 * first.own:.0f} % "
    fall += f"by its own sound, {100 * first.other:.0f} % by another song's"
    deaf = [one for one in measured if one.own - one.other < HARDLY]
    if first in deaf or 2 * len(deaf) > len(measured):
        return f"The answers hardly depend on the audio of this folder: {called}; {fall}."
    return f"The answers depend on the audio of this folder: {fall}; {called}."
