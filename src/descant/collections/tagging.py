"""What is sure about songs written into their tags, and taken back: in fields that are empty, beside or over others.

A ledger in the folder remembers what each field held before. A file is replaced in one step by a copy with other tags.
"""

import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from descant.collections.facts import Description, Facts, pair_sounds, sure_facts
from descant.collections.sidecars import short_key
from descant.collections.tag_files import TagFile, Tags
from descant.data.sources import list_sound_files
from descant.files import JsonLines, Record, hold_lock, read_regular, replace_whole
from descant.program import name_error, one_line

MODES = ("fill", "append", "overwrite")
LEDGER = ".descant-tags.jsonl"  # in the folder, so that both may move
MANY = ("genre", "mood")  # fields of several values
BLOCK = re.compile(r"\s*\[(?:MOOD|TEMPO|ENERGY|VOICE|INSTRUMENTS): [^\]]*\]")

GenreMap = Mapping[str, list[str]]


@dataclass(frozen=True)
class TagSettings:
    """Which fields are written, and when.

    mode: fill (fields that are empty), append (beside what is there) or overwrite. least: the probability from which
    on an answer counts; None: the model's own thresholds. genres: our names → the user's own.
    """

    fields: tuple[str, ...] = ("genre", "mood", "bpm", "key")
    mode: str = "fill"
    least: float | None = None
    genres: GenreMap | None = None
    pretend: bool = False


@dataclass(frozen=True)
class Change:
    """What happened to one file: its fields before and after, or why nothing could be done."""

    audio: str
    before: Tags
    after: Tags
    error: str | None = None

    def to_lines(self) -> Iterator[str]:
        """Yield a line for each field."""
        for field, values in self.after.items():
            yield f"{self.audio}: {field}: {'; '.join(self.before[field]) or '–'} → {'; '.join(values) or '–'}"


def read_genre_map(path: Path) -> dict[str, list[str]]:
    """Read a YAML or JSON file that maps our genres to one's own: a name, a list of names, or nothing to leave it out.

    Raises ValueError.
    """
    import yaml

    try:
        found = yaml.safe_load(read_regular(path).decode("utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as YAML or JSON: {one_line(error)}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: is no mapping of genres to names")
    return {str(name): _as_names(names, path) for name, names in found.items()}


def _as_names(names: Any, path: Path) -> list[str]:
    listed = [] if names is None else names if isinstance(names, list) else [names]
    if not all(isinstance(name, str) and name.strip() for name in listed):
        raise ValueError(f"{path}: {names!r} is neither a name nor a list of names")
    return listed


# What a field is to hold


def wanted_tags(facts: Facts, settings: TagSettings) -> Tags:
    """Return the values of each field about which something is sure."""
    mapped = [name for genre in facts.genres for name in (settings.genres or {}).get(genre, [genre])]
    wanted = {
        "genre": list(dict.fromkeys(mapped)),
        "mood": [facts.mood] if facts.mood else [],
        "bpm": [f"{facts.bpm:.0f}"] if facts.bpm else [],
        "key": [initial_key(facts.key)] if facts.key else [],
        "comment": [write_block(facts)] if write_block(facts) else [],
    }
    return {field: wanted[field] for field in settings.fields if wanted[field]}


def initial_key(key: str) -> str:
    """Return a measured key as players write it: "C#m" for "C sharp minor", "Eb" for "E flat major"."""
    tonic, _, mode = short_key(key).partition(" ")
    return tonic + ("m" if mode == "minor" else "")


def write_block(facts: Facts) -> str:
    """Return `[MOOD: calm; TEMPO: slow; INSTRUMENTS: piano, bass]` for a comment; "" where nothing is sure."""
    named = {
        "MOOD": facts.mood, "TEMPO": facts.tempo, "ENERGY": facts.energy, "VOICE": facts.singing,
        "INSTRUMENTS": ", ".join(facts.instruments),
    }  # fmt: skip
    text = "; ".join(f"{name}: {value}" for name, value in named.items() if value)
    return f"[{text}]" if text else ""


def merge(field: str, before: Sequence[str], wanted: Sequence[str], mode: str) -> list[str]:
    """Return what a field holds after its values were filled in, appended or written over."""
    empty = not any(value.strip() for value in before)
    if mode == "overwrite" or empty:
        return list(wanted)
    if mode == "fill":
        return list(before)
    if field == "comment":
        return [f"{BLOCK.sub('', before[0])} {wanted[0]}".strip(), *before[1:]]
    if field not in MANY:
        return list(before)
    present = {value.casefold() for value in before}
    return [*before, *(value for value in wanted if value.casefold() not in present)]


# Folders


def tag_folder(folder: Path, descriptions: Iterable[Record], settings: TagSettings) -> Iterator[Change]:
    """Tag the songs of a folder by their descriptions, and yield what was done to each that changes or fails.

    A description of a song that is not there is named; one that lies outside of the folder is passed over. Raises
    ValueError where another run is tagging the folder.
    """
    with _ledger(folder, settings.pretend) as ledger:
        for description, path in pair_sounds(descriptions, folder):
            if path is None:
                yield Change(description["audio"], {}, {}, "is not there, neither as it is named nor in the folder")
            elif path.resolve().is_relative_to(folder.resolve()):
                change = _tag(path, description, settings, ledger, folder)
                if change.error or change.after:
                    yield change


def find_undescribed(folder: Path, descriptions: Iterable[Record]) -> list[Path]:
    """Return the sound files of a folder that have no description."""
    described = {path.resolve() for _, path in pair_sounds(descriptions, folder) if path}
    return [path for path in list_sound_files(folder).files if path.resolve() not in described]


def _tag(path: Path, description: Description, settings: TagSettings, ledger: JsonLines, folder: Path) -> Change:
    def plan(before: Tags) -> Tags:
        wanted = wanted_tags(sure_facts(description, settings.least), settings)
        return {field: merge(field, before[field], values, settings.mode) for field, values in wanted.items()}

    try:
        file = TagFile(path)
        before = file.read()
        after = {field: values for field, values in plan(before).items() if values != before[field]}
        before = {field: before[field] for field in after}
        if after and not settings.pretend:
            name = path.resolve().relative_to(folder.resolve()).as_posix()
            ledger.append({"audio": name, "tagged": file.tagged, "before": before, "after": after}, sync=True)
            _rewrite(path, file, after, keep_empty=True)
    except (ValueError, OSError) as error:
        return Change(str(path), {}, {}, name_error(error))
    return Change(str(path), before, after)


def _rewrite(path: Path, file: TagFile, fields: Tags, keep_empty: bool) -> None:
    """Replace a file, and not a link to it, in one step by a copy with other tags."""
    real = path.resolve()
    with replace_whole(real) as partial:
        shutil.copy2(real, partial)
        file.write(fields)
        file.save(partial, keep_empty)


def undo_folder(folder: Path, pretend: bool = False) -> Iterator[Change]:
    """Give fields back what they held before all tagging, and yield what was done to each file.

    What was changed since by somebody else stays as it is, and is named. Raises ValueError where nothing was tagged.
    """
    if not (folder / LEDGER).is_file():
        raise ValueError(f"{folder}: nothing was tagged here: there is no {LEDGER}")
    with _ledger(folder, pretend) as ledger:
        records: dict[str, list[Record]] = defaultdict(list)
        for record in ledger.read():
            records[record["audio"]].append(record)
        kept = []
        for name, changes in records.items():
            change = _undo(folder, name, changes, pretend)
            if change.error:
                kept += changes
            yield change
        if not pretend:
            ledger.write(kept)


def _undo(folder: Path, name: str, records: Sequence[Record], pretend: bool) -> Change:
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"lies outside of {folder}, whose songs alone are tagged here")
        file = TagFile(path)
        current = file.read()
        restored, foreign = roll_back(current, records)
        after = {field: values for field, values in restored.items() if values != current[field]}
        if after and not pretend:
            _rewrite(path, file, after, keep_empty=records[0]["tagged"])
    except (ValueError, OSError) as error:
        return Change(str(path), {}, {}, name_error(error))
    left = f"{', '.join(sorted(foreign))} was changed since, and stays" if foreign else None
    return Change(str(path), {field: current[field] for field in after}, after, left)


def roll_back(current: Tags, records: Sequence[Record]) -> tuple[Tags, set[str]]:
    """Return the fields before all records of tagging, and those that were changed by somebody else since."""
    fields, foreign = dict(current), set()
    for record in reversed(records):
        for field, before in record["before"].items():
            if fields[field] == record["after"][field]:
                fields[field] = before
            elif fields[field] != before:  # which it is where the run was killed before it wrote
                foreign.add(field)
    return fields, foreign


@contextmanager
def _ledger(folder: Path, pretend: bool) -> Iterator[JsonLines]:
    """Give the folder's ledger, locked; an empty one is removed again."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: {'is a file: give the folder of songs' if folder.exists() else 'no such folder'}")
    ledger = JsonLines(folder / LEDGER)
    if pretend:
        yield ledger
        return
    with hold_lock(ledger.path, f"{folder}: another run is tagging here"):
        yield ledger
        if not ledger.path.stat().st_size:
            ledger.path.unlink()
