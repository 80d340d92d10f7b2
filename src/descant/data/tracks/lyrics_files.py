"""Where the lyrics of a track lie: in a file of their own, beside the sound, or in its tags."""

from pathlib import Path

from descant.data.tracks.lyric_tags import can_read_tags, read_tags
from descant.data.tracks.lyrics_text import Lyrics, clean_lyrics, decode_lyrics

LYRICS_SUFFIXES = (".lrc", ".txt")
MAX_BYTES = 10_000_000


def read_lyrics_file(path: Path) -> Lyrics:
    """Reads a `.lrc` or `.txt`; raises ValueError in a sentence for one that cannot be read or is no lyrics."""
    if path.suffix.lower() not in LYRICS_SUFFIXES:
        raise ValueError(f"lyrics file {path.name}: is neither {' nor '.join(LYRICS_SUFFIXES)}")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(f"lyrics file {path.name}: has {size / 1e6:.0f} MB, which no lyrics have")
        text, guessed = decode_lyrics(path.read_bytes())
    except OSError as error:
        raise ValueError(f"lyrics file {path.name}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"lyrics file {path.name}: {error}") from error
    lyrics = clean_lyrics(text)
    return Lyrics(lyrics.text, guessed + lyrics.notes)


def find_lyrics(audio: Path) -> Lyrics:
    """The lyrics beside a sound file (`song.lrc`, else `song.txt`), else those in its tags; ValueError as above."""
    for suffix in LYRICS_SUFFIXES:
        beside = audio.with_suffix(suffix)
        if beside.is_file():
            return read_lyrics_file(beside)
    if not can_read_tags():
        return Lyrics(None)
    text, _ = read_tags(audio)
    return Lyrics(None) if text is None else clean_lyrics(text)
