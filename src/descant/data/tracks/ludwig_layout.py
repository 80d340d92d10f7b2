"""The layout of the Ludwig Music Dataset: a labels.json, and sound files in a folder for each genre.

`{"tracks": {"<id>": {"genre": …, "subgenres": [...], "artist": …, "name": …, "otherSubgenres": [...]}}}`, its values
bare or wrapped as a DynamoDB export wraps them (`{"S": "rock"}`, `{"L": [{"S": "rock---punk"}]}`), and
`mp3/<genre>/<id>.mp3` (in some copies `mp3/mp3/<genre>/<id>.mp3`). `otherSubgenres` are labels that the dataset itself
set aside; they are not read.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from descant.data.tracks.track_folder import list_audio
from descant.data.tracks.track_records import TrackRecord
from descant.data.tracks.track_table import checked_id

LABELS_FILE = "labels.json"
_WRAPPERS = ("S", "N", "L", "M", "SS", "BOOL", "NULL")


def is_ludwig(folder: Path) -> bool:
    """Whether a folder has the layout: its labels file is enough, since lyrics may lie elsewhere."""
    return (folder / LABELS_FILE).is_file()


def read_ludwig(folder: Path) -> tuple[list[TrackRecord], list[str]]:
    """The records of the labels file, each with its sound file where one of its id is found, and the bad ones named.

    Raises:
        ValueError: the labels file is none.
    """
    labels = _read_labels(folder / LABELS_FILE)
    audio = {path.stem: path for path in list_audio(folder)}
    records, problems = [], []
    for track_id, value in labels.items():
        place = f"{LABELS_FILE}: {track_id}"
        try:
            records.append(_make_record(track_id, _unwrap(value), audio.get(track_id)))
        except ValueError as error:
            problems.append(f"{place}: {error}; left out")
    unlabelled = sorted(audio.keys() - labels.keys())
    problems += [f"{audio[name].relative_to(folder)}: has no entry in {LABELS_FILE}; left out" for name in unlabelled]
    return records, problems


def _read_labels(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes().decode("utf-8-sig"))
    except ValueError as error:  # broken JSON or other bytes
        raise ValueError(f"{path}: cannot be read as JSON: {error}") from error
    tracks = found.get("tracks", found) if isinstance(found, dict) else found
    if not isinstance(tracks, dict) or not tracks:
        raise ValueError(f'{path}: expected {{"tracks": {{"<id>": {{"genre": …, "subgenres": […]}}}}}}')
    return tracks


def _make_record(track_id: str, fields: Any, audio: Path | None) -> TrackRecord:
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
    """The bare value of a DynamoDB attribute, all the way down."""
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in _WRAPPERS:
        kind, inner = next(iter(value.items()))
        return None if kind == "NULL" else _unwrap(inner)
    if isinstance(value, dict):
        return {name: _unwrap(inner) for name, inner in value.items()}
    return [_unwrap(inner) for inner in value] if isinstance(value, list) else value
