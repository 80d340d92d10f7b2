"""What a table, a folder or a labels file says of each track, checked against the label tree and made into tracks."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from descant.data.tracks.label_tree import SEPARATOR, LabelTree, is_full_name, is_name, join_label
from descant.data.tracks.languages import detect_language
from descant.data.tracks.lyric_tags import MISSING_MUTAGEN, can_read_tags
from descant.data.tracks.lyrics_files import find_lyrics, read_lyrics_file
from descant.data.tracks.lyrics_text import Lyrics, clean_lyrics
from descant.data.tracks.track import Track


@dataclass(frozen=True)
class TrackRecord:
    """One track as its source tells of it. `place` is where: `tracks.csv:7`."""

    place: str
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
    """The labels that the records themselves use, as far as they can be labels."""
    records = list(records)
    labels = {_full_name(label, record.genre) for record in records for label in record.subgenres}
    genres = {record.genre.strip() for record in records}
    return LabelTree.of(filter(is_name, genres), filter(is_full_name, labels))


def read_records(records: Iterable[TrackRecord], tree: LabelTree, source: str) -> Reading:
    """Makes tracks of records. One of another genre than the tree's, or with nothing to hear or read, is left out."""
    reading, places = Reading(source), {}
    for record in records:
        where = f"{record.place}: {record.track_id}"
        if record.track_id in places:
            reading.problems.append(f"{where}: the same id stands in {places[record.track_id]}; left out")
            continue
        places[record.track_id] = record.place
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
    if audio is not None and not audio.is_file():
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
    """The record's own lyrics, else its lyrics file, else what lies beside or in the sound file."""
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
    """A bare name means the one below the track's own genre, where there is one."""
    try:
        return tree.find_subgenre(_full_name(label, genre))
    except ValueError:
        return tree.find_subgenre(label)


def _full_name(label: str, genre: str) -> str:
    return label if SEPARATOR in label else join_label(genre, label)
