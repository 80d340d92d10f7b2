"""Tracks in a folder of sound files: `genre/song.mp3` or `genre/subgenre/song.mp3`."""

from collections.abc import Iterator
from pathlib import Path

from descant.data.clip_audio import AUDIO_SUFFIXES
from descant.data.tracks.lyric_tags import can_read_tags, read_tags
from descant.data.tracks.track_records import TrackRecord


def list_audio(folder: Path) -> Iterator[Path]:
    """Every sound file below a folder in the order of the names, hidden ones left out."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in AUDIO_SUFFIXES and not hidden and path.is_file():
            yield path


def read_track_folder(folder: Path) -> tuple[list[TrackRecord], list[str]]:
    """A record for each sound file one or two folders deep, its artist out of its tags; a sentence for each other."""
    records, problems = [], []
    for path in list_audio(folder):
        place = path.relative_to(folder)
        if not 2 <= len(place.parts) <= 3:
            problems.append(f"{place}: lies neither in genre/ nor in genre/subgenre/; left out")
            continue
        genre, subgenres = place.parts[0], place.parts[1:-1]
        records.append(TrackRecord(str(place), path.stem, path, genre, subgenres, _artist(path)))
    return records, problems


def _artist(path: Path) -> str | None:
    if not can_read_tags():
        return None
    try:
        return read_tags(path)[1]
    except ValueError:  # named when the lyrics are read
        return None
