"""Collections of tracks by what names them: the demo corpus, a table, a folder, or the Ludwig layout."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from descant.data.publishing import TREE_FILE
from descant.data.tracks.demo_tracks import load_demo_tracks
from descant.data.tracks.label_tree import LabelTree
from descant.data.tracks.ludwig_layout import is_ludwig, read_ludwig
from descant.data.tracks.track import TrackCorpus
from descant.data.tracks.track_folder import list_audio, read_track_folder
from descant.data.tracks.track_records import TrackRecord, read_records, tree_of
from descant.data.tracks.track_table import TABLE_SUFFIXES, read_track_table

LUDWIG_LICENCE = "cc-by-nc-sa-4.0"


def load_tracks(source: str | Path, tree: LabelTree | None = None, audio_dir: str | Path | None = None) -> TrackCorpus:
    """Reads a collection.

    Args:
        source: `demo`; a table (see `read_track_table`); a folder with the Ludwig layout, with one table in it, with
            `genre/subgenre/song.mp3`, or as `datasets_scripts/ludwig.py` writes it.
        tree: the labels that count. Without it those of `label_tree.json` beside the table or in the folder, and
            where there is none, those that occur.
        audio_dir: where sound files named `<id>.<suffix>` lie, for the tracks whose source names none.

    Raises:
        ValueError: nothing is there, or none of it can be used.
    """
    if source == "demo":
        return load_demo_tracks()
    path = Path(source)
    records, problems = _read(path)
    records = records if audio_dir is None else _with_audio(records, Path(audio_dir))
    tree = tree or _own_tree(path) or (tree_of(records) if records else None)
    name = path.resolve().stem if path.is_file() else path.resolve().name
    found = read_records(records, tree, name) if tree else None
    if found is None or not found.tracks:
        first = next(iter([*problems, *(found.problems if found else [])]), "no sound files in it")
        raise ValueError(f"{source}: holds no track that can be used: {first}")
    licence = LUDWIG_LICENCE if path.is_dir() and is_ludwig(path) else "unknown"
    problems = problems + found.problems
    return TrackCorpus(found.tracks, tree, name, licence, _revision(records), problems, found.notes)


def _read(path: Path) -> tuple[list[TrackRecord], list[str]]:
    if path.is_file():
        return read_track_table(path)
    if not path.is_dir():
        raise ValueError(f"{path}: is neither `demo`, a table ({', '.join(TABLE_SUFFIXES)}) nor a folder of tracks")
    if is_ludwig(path):
        return read_ludwig(path)
    built = sorted(path.glob("tracks/*.parquet"))
    if built:
        parts = [read_track_table(file) for file in built]
        return [record for part in parts for record in part[0]], [problem for part in parts for problem in part[1]]
    files = [file for file in sorted(path.iterdir()) if file.name != TREE_FILE]
    tables = [file for file in files if file.suffix.lower() in TABLE_SUFFIXES]
    if len(tables) > 1:
        raise ValueError(f"{path}: holds several tables ({', '.join(file.name for file in tables[:4])}); name one")
    return read_track_table(tables[0]) if tables else read_track_folder(path)


def _own_tree(path: Path) -> LabelTree | None:
    file = (path if path.is_dir() else path.parent) / TREE_FILE
    return LabelTree.read(file) if file.is_file() else None


def _with_audio(records: Iterable[TrackRecord], folder: Path) -> list[TrackRecord]:
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder of sound files")
    files = {path.stem: path for path in list_audio(folder)}
    return [record if record.audio else replace(record, audio=files.get(record.track_id)) for record in records]


def _revision(records: Iterable[TrackRecord]) -> str:
    """A hash of what the source says of its tracks, wherever it lies."""
    digest = hashlib.sha256()
    for record in records:
        said = (record.track_id, record.genre, record.subgenres, record.artist, record.lyrics, record.split)
        digest.update(repr(said).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:12]
