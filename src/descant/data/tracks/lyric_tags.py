"""Lyrics and artist out of the tags inside a sound file."""

from pathlib import Path
from typing import Any

MISSING_MUTAGEN = "tags inside sound files are not read: pip install descant[tags] (mutagen) for lyrics and artists"


def can_read_tags() -> bool:
    """Whether mutagen is installed."""
    from importlib.util import find_spec

    return find_spec("mutagen") is not None


def read_tags(path: Path) -> tuple[str | None, str | None]:
    """(lyrics, artist) of a sound file, None where it has no such tag: ID3 (USLT, SYLT), Vorbis, MP4 (©lyr), APE.

    Raises:
        ValueError: the tags are damaged.
    """
    import mutagen

    try:
        file = mutagen.File(path)
    except (mutagen.MutagenError, OSError, ValueError, EOFError) as error:
        raise ValueError(f"tags cannot be read ({error})") from error
    if file is None or file.tags is None:
        return None, None
    return _find_lyrics(file.tags), _find_artist(file.tags)


def _find_lyrics(tags: Any) -> str | None:
    from mutagen.id3 import ID3

    if not isinstance(tags, ID3):
        return _first(tags, ("lyrics", "unsyncedlyrics", "unsynced lyrics", "\xa9lyr"))
    unsynchronised = [frame.text for frame in tags.getall("USLT") if frame.text.strip()]
    if unsynchronised:
        return unsynchronised[0]
    # SYLT: (text, time) pairs; a new line begins where a text says so, else each pair is a line.
    for frame in tags.getall("SYLT"):
        texts = [text for text, _ in frame.text]
        if any(text.strip() for text in texts):
            return ("" if any("\n" in text for text in texts) else "\n").join(texts)
    return None


def _find_artist(tags: Any) -> str | None:
    from mutagen.id3 import ID3

    if isinstance(tags, ID3):
        return next((str(frame.text[0]) for frame in tags.getall("TPE1") if frame.text), None)
    return _first(tags, ("artist", "\xa9ART"))


def _first(tags: Any, names: tuple[str, ...]) -> str | None:
    """The first value of the first of these tags, whatever its case."""
    values = {key.casefold(): tags[key] for key in tags.keys()}  # noqa: SIM118 (not every kind of tags is a dict)
    for name in names:
        found = values.get(name.casefold())
        if found:
            return str(found[0] if isinstance(found, list) else found)
    return None
