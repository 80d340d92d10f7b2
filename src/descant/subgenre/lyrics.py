"""Lyrics from files, tags and tables, made into clean text by rules that each leave a note."""

import html
import re
import stat
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from py3langid.langid import MODEL_FILE, LanguageIdentifier

MAX_CHARACTERS = 50_000  # five times the longest songs: what is longer is hardly one song's lyrics
INSTRUMENTAL_WORDS = {"instrumental", "instrumental track", "instrumental version", "no lyrics", "no vocals",
                      "this song is an instrumental", "this track is instrumental"}  # fmt: skip
_STAMP = r"\[\d{1,3}:\d{2}(?:[.:]\d{1,3})?\]"
_STAMPED_LINE = re.compile(rf"^[ \t]*(?:{_STAMP}[ \t]*)+", re.MULTILINE)
_WORD_STAMP = re.compile(r"<\d{1,3}:\d{2}(?:[.:]\d{1,3})?>")
_LRC_NAMES = "ar|al|ti|au|by|re|ve|la|id|offset|length|tool"
_LRC_TAG = re.compile(rf"^[ \t]*\[(?:{_LRC_NAMES}):[^\]\n]*\][ \t\r]*$", re.MULTILINE | re.I)
_HIDDEN = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.DOTALL | re.I)
_BREAK = re.compile(r"<\s?/?\s?(?:br|p|div|li|tr|h\d)\b[^<>]*>", re.I)
_TAG = re.compile(r"</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>|<![a-z][^<>]*>", re.I)
_ENTITY = re.compile(r"&(?:#\d+|#x[0-9a-f]+|[a-z]+\d*);", re.I)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ue000-\uf8ff]")
_MOJIBAKE = re.compile("[ÂÃ][\u0080-\u00bf€‚ƒ„…†‡ˆ‰‹‘’“”•–—˜™›]|â[€\u0080][\u0080-\uffff]")


@dataclass(frozen=True)
class Lyrics:
    """Clean text, None where there is none, and a note on each rule that changed or refused something."""

    text: str | None
    notes: list[str] = field(default_factory=list)


def decode_lyrics(data: bytes) -> tuple[str, list[str]]:
    """Decode a file, and note what had to be guessed: by its byte order mark, else UTF-8, else Windows-1252.

    Raises:
        ValueError: the bytes are no text (they hold NUL characters).
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace"), ["lyrics were UTF-16"]
    if b"\0" in data:
        raise ValueError("lyrics are no text: they hold NUL bytes (UTF-16 needs its byte order mark)")
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace"), ["lyrics are not UTF-8 and were read as Windows-1252"]


def clean_lyrics(text: str) -> Lyrics:
    """Mend encodings, remove time stamps and HTML, and note what is empty or instrumental.

    Lyrics of more than `MAX_CHARACTERS` are kept up to the last whole line before that, and a note says so.
    """
    notes: list[str] = []
    text = _mend_mojibake(text, notes)
    text = _strip_html(text, notes)
    text = _strip_stamps(text, notes)
    text = _tidy(text)
    if not text:
        return Lyrics(None, [*notes, "lyrics are empty"])
    if _plain(text) in INSTRUMENTAL_WORDS:
        return Lyrics(None, [*notes, "is marked as instrumental"])
    return Lyrics(_cap(text, notes), notes)


def _mend_mojibake(text: str, notes: list[str]) -> str:
    """Undo UTF-8 read as Windows-1252 ("Ã©" for "é") where the whole text allows it; else note it."""
    if not _MOJIBAKE.search(text):
        return text
    for encoding in ("cp1252", "latin-1"):
        try:
            mended = text.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
        notes.append("lyrics were UTF-8 read as Windows-1252 and were mended")
        return mended
    notes.append("lyrics look like UTF-8 read as Windows-1252 in part, which cannot be undone")
    return text


def _strip_html(text: str, notes: list[str]) -> str:
    plain = _TAG.sub("", _BREAK.sub("\n", _HIDDEN.sub("", text)))
    plain = _ENTITY.sub(lambda entity: html.unescape(entity[0]), plain)
    if plain != text:
        notes.append("HTML was taken out of the lyrics")
    return plain


def _strip_stamps(text: str, notes: list[str]) -> str:
    plain = _LRC_TAG.sub("", _WORD_STAMP.sub("", _STAMPED_LINE.sub("", text)))
    if plain != text:
        notes.append("time stamps were taken out of the lyrics")
    return plain


def _tidy(text: str) -> str:
    """Normalise to NFC, one kind of line end, no control characters or space around lines, one line between verses."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", ""))
    lines = "\n".join(" ".join(line.split()) for line in _CONTROL.sub(" ", text).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", lines).strip()


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[\W_]+", " ", text[:200].casefold()).split())


def _cap(text: str, notes: list[str]) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    kept = text[:MAX_CHARACTERS]
    kept = kept[: kept.rfind("\n")].rstrip() if "\n" in kept else kept
    notes.append(f"lyrics have {len(text):,} characters, over {MAX_CHARACTERS:,}: the first {len(kept):,} are kept")
    return kept


UNCERTAIN = "und"
MIN_PROBABILITY = 0.5  # "la la la" and other words of no language stay well below
SAMPLE_CHARACTERS = 20_000  # the longest songs have half of that
_NO_LANGUAGE = "zxx"


def detect_language(lyrics: str) -> str:
    """Return an ISO 639 code such as `en`, or `und` where the words are too few or of no one language."""
    language, probability = _identifier().classify(lyrics[:SAMPLE_CHARACTERS])
    return UNCERTAIN if language == _NO_LANGUAGE or probability < MIN_PROBABILITY else language


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


MISSING_MUTAGEN = "tags inside sound files are not read: pip install descant[tags] (mutagen) for lyrics and artists"


def can_read_tags() -> bool:
    """Return whether mutagen is installed."""
    from importlib.util import find_spec

    return find_spec("mutagen") is not None


def read_tags(path: Path) -> tuple[str | None, str | None]:
    """Return (lyrics, artist) of a sound file, None where it lacks the tag: ID3 (USLT, SYLT), Vorbis, MP4 (©lyr), APE.

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
    """Return the first value of the first of these tags, whatever its case."""
    values = {key.casefold(): tags[key] for key in tags.keys()}  # noqa: SIM118 (not every kind of tags is a dict)
    for name in names:
        found = values.get(name.casefold())
        if found:
            return str(found[0] if isinstance(found, list) else found)
    return None


LYRICS_SUFFIXES = (".lrc", ".txt")
MAX_BYTES = 10_000_000


def _read_bounded(path: Path) -> bytes:
    """Read a regular file of a size that lyrics have: a pipe would be waited for, a device read without end."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is not a regular file")
    if status.st_size > MAX_BYTES:
        raise ValueError(f"has {status.st_size / 1e6:.0f} MB, which no lyrics have")
    return path.read_bytes()


def read_lyrics_file(path: Path) -> Lyrics:
    """Read a `.lrc` or `.txt`; raises ValueError in a sentence for one that cannot be read or holds no lyrics."""
    if path.suffix.lower() not in LYRICS_SUFFIXES:
        raise ValueError(f"lyrics file {path.name}: is neither {' nor '.join(LYRICS_SUFFIXES)}")
    try:
        text, guessed = decode_lyrics(_read_bounded(path))
    except OSError as error:
        raise ValueError(f"lyrics file {path.name}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"lyrics file {path.name}: {error}") from error
    lyrics = clean_lyrics(text)
    return Lyrics(lyrics.text, guessed + lyrics.notes)


def find_lyrics(audio: Path) -> Lyrics:
    """Read the lyrics beside a sound file (`song.lrc`, else `song.txt`), else those in its tags.

    Raises ValueError as `read_lyrics_file` and `read_tags`.
    """
    for suffix in LYRICS_SUFFIXES:
        beside = audio.with_suffix(suffix)
        if beside.is_file():
            return read_lyrics_file(beside)
    if not can_read_tags():
        return Lyrics(None)
    text, _ = read_tags(audio)
    return Lyrics(None) if text is None else clean_lyrics(text)
