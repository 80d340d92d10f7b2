"""A track of a collection: its sound, its words, who plays it, and its labels."""

from dataclasses import dataclass, field
from pathlib import Path

from descant.data.tracks.label_tree import LabelTree

TRACK_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Track:
    """One recording. Its audio, lyrics, artist and language may each be missing (None).

    `subgenres` are full names, `genre---subgenre`; they may lie under other genres than `genre`, the main one.
    `lyrics` are clean text and never empty; `language` is that of the lyrics, an ISO 639-1 code or `und`.
    """

    track_id: str
    audio: Path | None
    lyrics: str | None
    artist: str | None
    genre: str
    subgenres: tuple[str, ...]
    language: str | None
    split: str | None
    source: str


@dataclass(frozen=True)
class TrackCorpus:
    """A collection that was read: its good tracks, the tree of their labels, and where they come from.

    `problems` name what was left out or could not be read, a sentence each: they count for an exit status.
    `notes` name what was handled by a rule and is no fault (an instrumental, lyrics in an old encoding).
    """

    tracks: list[Track]
    tree: LabelTree
    id: str
    licence: str
    revision: str
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def split(self, name: str) -> list[Track]:
        """The tracks of one split, in the collection's order."""
        return [track for track in self.tracks if track.split == name]
