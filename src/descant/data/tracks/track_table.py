"""Tracks in the general form: a CSV, JSONL, JSON or Parquet table."""

from pathlib import Path

from descant.data.tables import Problem, Record, read_table
from descant.data.tracks.track import TRACK_SPLITS
from descant.data.tracks.track_records import TrackRecord

TABLE_SUFFIXES = (".csv", ".jsonl", ".json", ".parquet")
LABEL_SEPARATOR = ";"


def read_track_table(
    path: Path, splits: tuple[str, ...] = TRACK_SPLITS
) -> tuple[list[TrackRecord], list[str]]:
    """The records of a table, and a sentence for each row that is none.

    Columns: `genre` and one of `id` and `audio` (the id is then its stem); where they exist also `subgenres` (a list,
    or text with `;` between), `artist`, `lyrics` or `lyrics_file`, `language`, and `split`. Relative paths count from
    the table's folder.
    """
    records, problems = [], []
    for row, record in read_table(path, [{"id", "genre"}, {"audio", "genre"}]):
        if isinstance(record, Problem):
            problems.append(f"{record}; left out")
            continue
        try:
            records.append(_make_record(record, path, f"{path.name}:{row}", splits))
        except ValueError as error:
            problems.append(f"{path.name}:{row}: {record.get('id') or record.get('audio')}: {error}; left out")
    return records, problems


def _make_record(record: Record, path: Path, place: str, splits: tuple[str, ...]) -> TrackRecord:
    audio, lyrics_file, split = (_text(record, name) for name in ("audio", "lyrics_file", "split"))
    if split not in (None, *splits):
        raise ValueError(f"split {split!r} is none of {', '.join(splits)}")
    folder = path.resolve().parent
    return TrackRecord(
        place=place,
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


def checked_id(track_id: str) -> str:
    """An id of one printable line; ValueError for any other."""
    if not track_id or len(track_id) > 200 or not track_id.isprintable():
        raise ValueError(f"id {track_id!r} is empty, over 200 characters or has control characters")
    return track_id


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
    """An empty cell says nothing: the lyrics may lie elsewhere."""
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
