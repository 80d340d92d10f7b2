"""Reads tracks from a table, a folder or a labels file, and checks them against the label tree."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from descant.data.annotations import checked_id
from descant.data.demo import CORPUS_VERSION, SPLITS, demo_dir
from descant.data.sources import list_sound_files
from descant.data.tables import TABLE_SUFFIXES, Problem, Record, name_problem, read_table
from descant.files import read_regular
from descant.subgenre.labels import (
    SEPARATOR,
    TRACK_SPLITS,
    TREE_FILE,
    LabelTree,
    Track,
    TrackCorpus,
    is_full_name,
    is_name,
    join_label,
)
from descant.subgenre.lyrics import (
    LYRICS_SUFFIXES,
    MISSING_MUTAGEN,
    Lyrics,
    can_read_tags,
    clean_lyrics,
    detect_language,
    find_lyrics,
    read_lyrics_file,
    read_tags,
)


@dataclass(frozen=True)
class TrackRecord:
    """One track as its source describes it. `where` is its position there: `tracks.csv:7`."""

    where: str
    track_id: str
    audio: Path | None
    genre: str
    subgenres: tuple[str, ...] = ()
    artist: str | None = None
    lyrics: str | None = None
    lyrics_file: Path | None = None
    split: str | None = None
    language: str | None = None


@dataclass
class Reading:
    """The tracks read so far, with what was left out (`problems`) and what was handled by a rule (`notes`)."""

    source: str
    tracks: list[Track] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def tree_of(records: Iterable[TrackRecord]) -> LabelTree:
    """Build the tree of the labels that the records themselves use, as far as they can be labels."""
    records = list(records)
    labels = {_full_name(label, record.genre) for record in records for label in record.subgenres}
    genres = {record.genre.strip() for record in records}
    return LabelTree.of(filter(is_name, genres), filter(is_full_name, labels))


def make_tracks(records: Iterable[TrackRecord], tree: LabelTree, source: str) -> Reading:
    """Make tracks of records; one of a genre that the tree lacks, or with neither audio nor lyrics, is left out."""
    reading = Reading(source)
    seen: dict[str, str] = {}
    for record in records:
        where = f"{record.where}: {record.track_id}"
        if record.track_id in seen:
            reading.problems.append(f"{where}: the same id stands in {seen[record.track_id]}; left out")
            continue
        seen[record.track_id] = record.where
        try:
            _read_record(record, tree, reading, where)
        except ValueError as error:
            reading.problems.append(f"{where}: {error}; left out")
    if any(track.audio for track in reading.tracks) and not can_read_tags():
        reading.notes.append(MISSING_MUTAGEN)
    return reading


def _read_record(record: TrackRecord, tree: LabelTree, reading: Reading, where: str) -> None:
    genre = tree.find_genre(record.genre)
    audio = record.audio
    if audio is not None and not os.path.isfile(audio):
        reading.problems.append(f"{where}: audio {audio.name} is not there; its lyrics alone are used")
        audio = None
    lyrics = _read_lyrics(record, audio, reading, where)
    if audio is None and lyrics.text is None:
        raise ValueError("has neither audio nor lyrics")
    subgenres = _find_subgenres(record, tree, reading, where)
    language = record.language or (detect_language(lyrics.text) if lyrics.text else None)
    reading.tracks.append(
        Track(record.track_id, audio, lyrics.text, record.artist, genre, subgenres, language, record.split,
              reading.source)
    )  # fmt: skip


def _read_lyrics(record: TrackRecord, audio: Path | None, reading: Reading, where: str) -> Lyrics:
    """Read the record's own lyrics, else its lyrics file, else what lies beside or in the sound file."""
    try:
        if record.lyrics is not None:
            lyrics = clean_lyrics(record.lyrics)
        elif record.lyrics_file is not None:
            lyrics = read_lyrics_file(record.lyrics_file)
        else:
            lyrics = find_lyrics(audio) if audio is not None else Lyrics(None)
    except ValueError as error:
        reading.problems.append(f"{where}: {error}; it counts as without lyrics")
        return Lyrics(None)
    reading.notes.extend(f"{where}: {note}" for note in lyrics.notes)
    return lyrics


def _find_subgenres(record: TrackRecord, tree: LabelTree, reading: Reading, where: str) -> tuple[str, ...]:
    found = []
    for label in record.subgenres:
        try:
            found.append(_find_subgenre(label, record.genre, tree))
        except ValueError as error:
            reading.problems.append(f"{where}: {error}; the track is kept without it")
    return tuple(dict.fromkeys(found))


def _find_subgenre(label: str, genre: str, tree: LabelTree) -> str:
    """Return the full name of a label; a bare name means the one below the track's own genre, where there is one."""
    try:
        return tree.find_subgenre(_full_name(label, genre))
    except ValueError:
        return tree.find_subgenre(label)


def _full_name(label: str, genre: str) -> str:
    return label if SEPARATOR in label else join_label(genre, label)


LABEL_SEPARATOR = ";"


def read_track_table(
    path: Path, splits: tuple[str, ...] = TRACK_SPLITS
) -> tuple[list[TrackRecord], list[str]]:
    """Return the records of a table, and a sentence for each row that cannot be used.

    Columns: `genre` and one of `id` and `audio` (the id is then its stem); where they exist also `subgenres` (a list,
    or text with `;` between), `artist`, `lyrics` or `lyrics_file`, `language`, and `split`. Relative paths count from
    the table's folder.
    """
    records, problems = [], []
    for row, record in read_table(path).select([frozenset({"id", "genre"}), frozenset({"audio", "genre"})]):
        if isinstance(record, Problem):
            problems.append(f"{record}; left out")
            continue
        try:
            records.append(_make_record(record, path, f"{path.name}:{row}", splits))
        except Exception as error:  # whatever one record does, the others are read
            named = name_problem(path.name, row, record.get("id") or record.get("audio"), error)
            problems.append(f"{named}; left out")
    return records, problems


def _make_record(record: Record, path: Path, where: str, splits: tuple[str, ...]) -> TrackRecord:
    audio, lyrics_file, split = (_text(record, name) for name in ("audio", "lyrics_file", "split"))
    if split not in (None, *splits):
        raise ValueError(f"split {split!r} is none of {', '.join(splits)}")
    folder = path.resolve().parent
    return TrackRecord(
        where=where,
        track_id=checked_id(_text(record, "id") or Path(audio or "").stem),
        audio=folder / audio if audio else None,
        genre=_text(record, "genre") or "",
        subgenres=_labels(record.get("subgenres")),
        artist=_text(record, "artist"),
        lyrics=_lyrics(record),
        lyrics_file=folder / lyrics_file if lyrics_file else None,
        split=split,
        language=_text(record, "language"),
    )


def _text(record: Record, name: str) -> str | None:
    value = record.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError(f"{name} {value!r} is no text")
    if "\0" in str(value):
        raise ValueError(f"{name} holds a NUL character")
    return str(value).strip() or None


def _lyrics(record: Record) -> str | None:
    """Return the lyrics of a cell; an empty one is None, since the lyrics may lie elsewhere."""
    value = record.get("lyrics")
    if value is not None and not isinstance(value, str):
        raise ValueError(f"lyrics are no text but {type(value).__name__}")
    return value if value and value.strip() else None


def _labels(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split(LABEL_SEPARATOR)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        raise ValueError(f"subgenres {value!r} is neither a list nor text with {LABEL_SEPARATOR} between labels")
    return tuple(label.strip() for label in value if label.strip())


SOURCE = "demo"


def load_demo_tracks() -> TrackCorpus:
    """Every clip as a track, in the order of the facts table; its splits are those of the corpus.

    Raises:
        ValueError: a record of the corpus does not read, which an intact installation rules out.
    """
    records, problems = read_track_table(demo_dir() / "demo_tracks.csv", SPLITS)
    tree = LabelTree.read(demo_dir() / "demo_labels.json")
    reading = make_tracks(records, tree, SOURCE)
    if problems or reading.problems:
        raise ValueError(f"the demo corpus is damaged, reinstall descant: {[*problems, *reading.problems][0]}")
    return TrackCorpus(reading.tracks, tree, "descant/demo", "apache-2.0", CORPUS_VERSION, notes=reading.notes)


def list_audio(folder: Path) -> list[Path]:
    """List the sound files below a folder by name; what is left out is logged."""
    listed = list_sound_files(folder)
    listed.warn(used=(*LYRICS_SUFFIXES, *TABLE_SUFFIXES))
    return listed.files


def read_track_folder(folder: Path) -> tuple[list[TrackRecord], list[str]]:
    """Return a record for each sound file one or two folders deep, its artist from its tags; a sentence for others."""
    records, problems = [], []
    for path in list_audio(folder):
        inner = path.relative_to(folder)
        if not 2 <= len(inner.parts) <= 3:
            problems.append(f"{inner}: lies neither in genre/ nor in genre/subgenre/; left out")
            continue
        genre, subgenres = inner.parts[0], inner.parts[1:-1]
        records.append(TrackRecord(str(inner), path.stem, path, genre, subgenres, _artist(path)))
    return records, problems


def _artist(path: Path) -> str | None:
    if not can_read_tags():
        return None
    try:
        return read_tags(path)[1]
    except ValueError:  # named when the lyrics are read
        return None


LABELS_FILE = "labels.json"
_WRAPPERS = ("S", "N", "L", "M", "SS", "BOOL", "NULL")


def is_ludwig(folder: Path) -> bool:
    """Return whether a folder has the layout: its labels file is enough, since lyrics may lie elsewhere."""
    return (folder / LABELS_FILE).is_file()


def read_ludwig(folder: Path) -> tuple[list[TrackRecord], list[str]]:
    """Return the records of the labels file, with the sound files named by their ids, and a sentence for each bad one.

    Raises:
        ValueError: the labels file is none.
    """
    labels = _read_labels(folder / LABELS_FILE)
    audio = {path.stem: path for path in list_audio(folder)}
    records, problems = [], []
    for track_id, value in labels.items():
        try:
            records.append(_make_ludwig_record(track_id, _unwrap(value), audio.get(track_id)))
        except ValueError as error:
            problems.append(f"{LABELS_FILE}: {track_id}: {error}; left out")
    unlabelled = sorted(audio.keys() - labels.keys())
    problems += [f"{audio[name].relative_to(folder)}: has no entry in {LABELS_FILE}; left out" for name in unlabelled]
    return records, problems


def _read_labels(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(read_regular(path).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:  # broken JSON or other bytes
        raise ValueError(f"{path}: cannot be read as JSON: {error}") from error
    tracks = found.get("tracks", found) if isinstance(found, dict) else found
    if not isinstance(tracks, dict) or not tracks:
        raise ValueError(f'{path}: expected {{"tracks": {{"<id>": {{"genre": …, "subgenres": […]}}}}}}')
    return tracks


def _make_ludwig_record(track_id: str, fields: Any, audio: Path | None) -> TrackRecord:
    if not isinstance(fields, dict):
        raise ValueError(f"its entry is {type(fields).__name__}, not an object with genre and subgenres")
    genre, artist, subgenres = fields.get("genre"), fields.get("artist"), fields.get("subgenres") or []
    if not isinstance(genre, str) or not genre.strip():
        raise ValueError(f"genre {genre!r} is no name")
    if not isinstance(subgenres, list) or not all(isinstance(label, str) for label in subgenres):
        raise ValueError(f"subgenres {subgenres!r} are no list of names")
    labels = tuple(label.strip() for label in subgenres if label.strip() and label.strip() != genre.strip())
    artist = artist.strip() or None if isinstance(artist, str) else None
    return TrackRecord(LABELS_FILE, checked_id(track_id), audio, genre.strip(), labels, artist)


def _unwrap(value: Any) -> Any:
    """Return the bare value of a DynamoDB attribute, all the way down."""
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in _WRAPPERS:
        kind, inner = next(iter(value.items()))
        return None if kind == "NULL" else _unwrap(inner)
    if isinstance(value, dict):
        return {name: _unwrap(inner) for name, inner in value.items()}
    return [_unwrap(inner) for inner in value] if isinstance(value, list) else value


LUDWIG_LICENCE = "cc-by-nc-sa-4.0"


def load_tracks(source: str | Path, tree: LabelTree | None = None, audio_dir: str | Path | None = None) -> TrackCorpus:
    """Read a collection.

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
    reading = make_tracks(records, tree, name) if tree else Reading(name)
    problems = problems + reading.problems
    if tree is None or not reading.tracks:
        first = problems[0] if problems else "no sound files in it"
        raise ValueError(f"{source}: holds no track that can be used: {first}")
    licence = LUDWIG_LICENCE if path.is_dir() and is_ludwig(path) else "unknown"
    return TrackCorpus(reading.tracks, tree, name, licence, _revision(records), problems, reading.notes)


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
    """Return a hash of the records, whatever folder they come from."""
    digest = hashlib.sha256()
    for record in records:
        values = (record.track_id, record.genre, record.subgenres, record.artist, record.lyrics, record.split)
        digest.update(repr(values).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:12]
