"""Tags inside sound files, field by field: ID3 (MP3, WAV, AIFF), Vorbis comments (FLAC, Ogg, Opus) and MP4.

A field is a list of texts, whatever the format; an empty list is a field that is not there. Needs mutagen.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

FIELDS = ("genre", "mood", "bpm", "key", "comment")
ID3_FRAMES = {"genre": "TCON", "mood": "TMOO", "bpm": "TBPM", "key": "TKEY"}
VORBIS_NAMES = {"genre": "GENRE", "mood": "MOOD", "bpm": "BPM", "key": "INITIALKEY", "comment": "COMMENT"}
MP4_ATOMS = {
    "genre": "\xa9gen", "comment": "\xa9cmt", "bpm": "tmpo", "mood": "----:com.apple.iTunes:MOOD",
    "key": "----:com.apple.iTunes:initialkey",
}  # fmt: skip
LANGUAGE = "eng"  # of a comment that is new
MISSING = "tags need mutagen: pip install descant[tags]"
LARGEST_BPM = 65_535  # of an MP4 atom

Tags = dict[str, list[str]]


def require_mutagen() -> None:
    """Raise ValueError where mutagen is not installed."""
    if find_spec("mutagen") is None:
        raise ValueError(MISSING)


class TagFile:
    """The tags of one sound file, whatever its format."""

    def __init__(self, path: Path) -> None:
        """Open a file; raises ValueError for one whose tags cannot be read, or of a format without them."""
        import mutagen

        try:
            file = mutagen.File(path)
        except (mutagen.MutagenError, OSError, ValueError, EOFError) as error:
            raise ValueError(f"its tags cannot be read ({error})") from error
        if file is None:
            raise ValueError("is no file that can be tagged: MP3, FLAC, Ogg, Opus, MP4, WAV and AIFF can")
        self.file = file
        self.tagged = file.tags is not None
        if not self.tagged:
            self._add_tags()

    def _add_tags(self) -> None:
        import mutagen

        try:
            self.file.add_tags()
        except (mutagen.MutagenError, NotImplementedError) as error:
            raise ValueError(f"cannot carry tags ({error})") from error

    @property
    def _kind(self) -> str:
        from mutagen.flac import FLAC
        from mutagen.id3 import ID3
        from mutagen.mp4 import MP4
        from mutagen.oggflac import OggFLAC
        from mutagen.oggopus import OggOpus
        from mutagen.oggvorbis import OggVorbis

        if isinstance(self.file.tags, ID3):
            return "id3"
        if isinstance(self.file, MP4):
            return "mp4"
        if isinstance(self.file, FLAC | OggFLAC | OggOpus | OggVorbis):
            return "vorbis"
        raise ValueError(f"has tags of another kind ({type(self.file.tags).__name__})")

    def read(self) -> Tags:
        """Return all fields."""
        read = {"id3": self._read_id3, "mp4": self._read_mp4, "vorbis": self._read_vorbis}[self._kind]
        return {field: read(field) for field in FIELDS}

    def write(self, fields: Tags) -> None:
        """Set some fields, in memory; an empty list takes one away."""
        write = {"id3": self._write_id3, "mp4": self._write_mp4, "vorbis": self._write_vorbis}[self._kind]
        for field, values in fields.items():
            write(field, values)

    def save(self, path: Path, keep_empty: bool = True) -> None:
        """Write the tags into a file, a copy of the one that was opened; raises ValueError.

        keep_empty: False takes tags without any field away, as they were where nothing had been tagged.
        """
        import mutagen

        try:
            if not keep_empty and not self.file.tags:
                self.file.delete(path)
            else:
                self.file.save(path)
        except mutagen.MutagenError as error:
            raise ValueError(f"tags cannot be written ({error})") from error

    def _read_vorbis(self, field: str) -> list[str]:
        return list(map(str, self.file.tags.get(VORBIS_NAMES[field], [])))

    def _write_vorbis(self, field: str, values: list[str]) -> None:
        if values:
            self.file.tags[VORBIS_NAMES[field]] = values
        elif VORBIS_NAMES[field] in self.file.tags:
            del self.file.tags[VORBIS_NAMES[field]]

    def _read_mp4(self, field: str) -> list[str]:
        values = self.file.tags.get(MP4_ATOMS[field], [])
        return [bytes(one).decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in values]

    def _write_mp4(self, field: str, values: list[str]) -> None:
        from mutagen.mp4 import MP4FreeForm

        atom = MP4_ATOMS[field]
        if not values:
            self.file.tags.pop(atom, None)
        elif field == "bpm":
            self.file.tags[atom] = [min(round(float(one)), LARGEST_BPM) for one in values]
        elif atom.startswith("----"):
            self.file.tags[atom] = [MP4FreeForm(one.encode()) for one in values]
        else:
            self.file.tags[atom] = values

    def _read_id3(self, field: str) -> list[str]:
        frame = self._find_frame(field)
        return [] if frame is None else list(map(str, frame.text))

    def _write_id3(self, field: str, values: list[str]) -> None:
        from mutagen import id3

        frame, tags = self._find_frame(field), self.file.tags
        if frame is not None and values:
            frame.text, frame.encoding = values, id3.Encoding.UTF8
        elif frame is not None:
            del tags[frame.HashKey]
        elif field == "comment" and values:
            tags.add(id3.COMM(encoding=id3.Encoding.UTF8, lang=LANGUAGE, desc="", text=values))
        elif values:
            tags.add(getattr(id3, ID3_FRAMES[field])(encoding=id3.Encoding.UTF8, text=values))

    def _find_frame(self, field: str) -> Any:
        """Return the frame of a field; of comments, the first without a description of its own."""
        frames = self.file.tags.getall(ID3_FRAMES.get(field, "COMM"))
        return next((frame for frame in frames if field != "comment" or not frame.desc), None)
