"""The demo corpus: its rows, by the ordinary readers, and the hashes that say whether it is whole and unchanged."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from descant.data.annotations import Annotations, Row, clip_windows, read_music_instruct, read_musiccaps

CORPUS_VERSION = "1"
# Taken before the first training. Another hash is another corpus: raise CORPUS_VERSION and report both numbers.
TEST_SHA256 = "ef68af99b5c67a4a134fd593bee7a42b473fdf5d77c2d6d677de46ab99a14b21"
# Of artists, lyrics and labels, taken before the first model that hears and reads was trained. Bound in the same way.
TRACKS_SHA256 = "8e7a1234d42b973714207fd93c66d7b285a29d761eb3804355c669e1db29a61e"

DATA_DIR = Path(__file__).parent
MANIFEST = "MANIFEST.sha256"
TEST_SPLITS = ("test", "test_grooves")
TRACK_FILES = ("demo_tracks.csv", "demo_labels.json")
SPLITS = ("train", "validation", "test", "test_grooves")
SOURCE = "demo"


def verify_manifest(folder: Path = DATA_DIR) -> list[str]:
    """Name every data file that is missing, changed or not listed; empty when the corpus is whole."""
    lines = (folder / MANIFEST).read_text(encoding="utf-8").splitlines()
    listed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    found = {path.relative_to(folder).as_posix(): path for path in _data_files(folder)}
    problems = [f"{name}: missing" for name in listed if name not in found]
    problems += [f"{name}: not in {MANIFEST}" for name in found if name not in listed]
    changed = (name for name in found if name in listed and _sha256(found[name].read_bytes()) != listed[name])
    return sorted(problems + [f"{name}: changed" for name in changed])


def hash_test_splits(folder: Path = DATA_DIR) -> str:
    """One hash over the facts, captions, questions, answers and audio of both test splits, in the files' order."""
    with (folder / "facts.csv").open(encoding="utf-8", newline="") as file:
        facts = [row for row in csv.DictReader(file) if row["split"] in TEST_SPLITS]
    ytids = {row["clip_id"][1:].split("]")[0] for row in facts}
    digest = hashlib.sha256()
    for record in [*facts, *_annotations(folder, ytids)]:
        digest.update(json.dumps(record, sort_keys=True).encode())
    for row in facts:
        digest.update((folder / "audio" / f"{row['clip_id']}.ogg").read_bytes())
    return digest.hexdigest()


def hash_tracks(folder: Path = DATA_DIR) -> str:
    """One hash over the artists, lyrics and labels of all splits."""
    return _sha256(b"".join((folder / name).read_bytes() for name in TRACK_FILES))


def _annotations(folder: Path, ytids: set[str]) -> Iterator[dict]:
    with (folder / "demo_musiccaps.csv").open(encoding="utf-8", newline="") as file:
        yield from (row for row in csv.DictReader(file) if row["ytid"] in ytids)
    for name in ("demo_qa_short.json", "demo_qa_long.json"):
        records = json.loads((folder / name).read_text(encoding="utf-8"))["QA"]
        yield from (record for record in records if record["ytid"] in ytids)


def _data_files(folder: Path) -> Iterator[Path]:
    yield from sorted([*folder.glob("*.csv"), *folder.glob("*.json"), *folder.glob("audio/*.ogg")])
    yield folder / "NOTICE"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def demo_dir() -> Path:
    """Return the folder that holds the tables and `audio/<clip_id>.ogg`."""
    return DATA_DIR


def facts() -> list[dict[str, str]]:
    """Return the facts table, a row a clip; several instruments stand as `flute; piano`."""
    with (DATA_DIR / "facts.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def load_demo() -> dict[str, list[Row]]:
    """Return captions, short and long questions of each split, in the order of the files.

    Raises:
        ValueError: a record of the corpus does not read, which an intact installation rules out.
    """
    return {split: list(rows) for split, rows in _read_rows(DATA_DIR).items()}


@cache
def _read_rows(folder: Path) -> dict[str, list[Row]]:
    """Return what `load_demo` does, read once in a process."""
    split_of = {row["clip_id"]: row["split"] for row in facts()}
    captions = _read(read_musiccaps, folder / "demo_musiccaps.csv")
    windows = clip_windows(captions)
    short = _read(lambda path: read_music_instruct(path, windows), folder / "demo_qa_short.json")
    long = _read(lambda path: read_music_instruct(path, windows), folder / "demo_qa_long.json")
    splits: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for row in [*captions, *short, *long]:
        split = split_of[row.clip_id]
        splits[split].append(replace(row, split=split, source=SOURCE))
    return splits


def _read(reader: Callable[[Path], Annotations], path: Path) -> list[Row]:
    found = reader(path)
    if found.problems:
        raise ValueError(f"the demo corpus is damaged, reinstall descant: {found.problems[0]}")
    return found.rows
