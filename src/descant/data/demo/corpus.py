"""The demo corpus as rows: its splits come from the facts table, its rows from the ordinary readers."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from descant.data.annotations import Annotations, Row, clip_windows, read_music_instruct, read_musiccaps
from descant.data.demo.manifest import DATA_DIR

SPLITS = ("train", "validation", "test", "test_grooves")
SOURCE = "demo"


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
    split_of = {row["clip_id"]: row["split"] for row in facts()}
    captions = _read(read_musiccaps, "demo_musiccaps.csv")
    windows = clip_windows(captions)
    short = _read(lambda path: read_music_instruct(path, windows), "demo_qa_short.json")
    long = _read(lambda path: read_music_instruct(path, windows), "demo_qa_long.json")
    splits: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for row in [*captions, *short, *long]:
        split = split_of[row.clip_id]
        splits[split].append(replace(row, split=split, source=SOURCE))
    return splits


def _read(reader: Callable[[Path], Annotations], name: str) -> list[Row]:
    found = reader(DATA_DIR / name)
    if found.problems:
        raise ValueError(f"the demo corpus is damaged, reinstall descant: {found.problems[0]}")
    return found.rows
