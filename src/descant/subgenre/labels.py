"""The tree of genres and their subgenres, and the tracks that carry these labels."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from descant.files import read_regular, write_whole

SEPARATOR = "---"
TREE_FILE = "label_tree.json"  # beside the tracks that carry its labels


@dataclass(frozen=True)
class LabelTree:
    """Genres and, below each, its subgenres. A subgenre is known by its full name, `genre---subgenre`.

    One name below two genres is two labels. A genre may have no subgenres.

    Args:
        branches: genre → its subgenres' own names, in the order that the labels have for good.

    Raises:
        ValueError: a name is empty, stands twice or holds the separator, or there is no genre at all.
    """

    branches: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        if not self.branches:
            raise ValueError("a label tree needs at least one genre")
        for genre, names in self.branches.items():
            _check_name(genre, "genre")
            for name in names:
                _check_name(name, f"subgenre of {genre!r}")
            _require_distinct(names, f"genre {genre!r} lists its subgenre")
        _require_distinct(self.branches, "the tree lists the genre")

    @classmethod
    def read(cls, path: str | Path) -> "LabelTree":
        """Read `{"genre": ["subgenre", …], …}`; a ValueError names the file and what is wrong in it."""
        try:
            text = read_regular(path).decode("utf-8-sig")
            found = json.loads(text, object_pairs_hook=_require_single_names)
        except OSError as error:
            raise ValueError(f"label tree {path}: cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"label tree {path}: {error}") from error
        if not isinstance(found, dict) or not all(_is_names(names) for names in found.values()):
            raise ValueError(f'label tree {path}: expected {{"genre": ["subgenre", …], …}}')
        try:
            return cls({genre: tuple(names) for genre, names in found.items()})
        except ValueError as error:
            raise ValueError(f"label tree {path}: {error}") from error

    @classmethod
    def of(cls, genres: Iterable[str], subgenres: Iterable[str]) -> "LabelTree":
        """Build the tree of the labels that occur, in alphabetical order; spellings that differ in case are one."""
        pairs = sorted({split_label(label) for label in subgenres} | {(genre.strip(), "") for genre in genres})
        spelling: dict[str, str] = {}
        branches: dict[str, dict[str, str]] = {}
        for genre, name in pairs:
            branch = branches.setdefault(spelling.setdefault(_plain(genre), genre), {})
            if name:
                branch.setdefault(_plain(name), name)
        return cls({genre: tuple(branch.values()) for genre, branch in branches.items()})

    def write(self, path: str | Path) -> None:
        """Write the tree as a JSON file that `read` reads."""
        lines = (f"  {_quoted(genre)}: {_quoted(list(names))}" for genre, names in self.branches.items())
        write_whole(Path(path), "{\n" + ",\n".join(lines) + "\n}\n")

    @cached_property
    def genres(self) -> tuple[str, ...]:
        """The genres in the order of the file."""
        return tuple(self.branches)

    @cached_property
    def subgenres(self) -> tuple[str, ...]:
        """The subgenres' full names in the order of the file."""
        return tuple(join_label(genre, name) for genre, names in self.branches.items() for name in names)

    def parent(self, subgenre: str) -> str:
        """Return the genre of a subgenre's full name; raises ValueError where the tree has no such subgenre."""
        if self._subgenres_by_plain.get(_plain(subgenre)) != subgenre:
            raise ValueError(f"the label tree has no subgenre {subgenre!r}")
        return split_label(subgenre)[0]

    def find_genre(self, genre: str) -> str:
        """Return the tree's spelling of a genre, whatever its case and spaces; raises ValueError where it has none."""
        try:
            return self._genres_by_plain[_plain(genre)]
        except KeyError:
            raise ValueError(f"genre {genre!r} is not in the label tree") from None

    def find_subgenre(self, label: str) -> str:
        """Return the full name that a label means, itself or the own name of a subgenre of one genre alone."""
        if SEPARATOR in label and _plain(label) in self._subgenres_by_plain:
            return self._subgenres_by_plain[_plain(label)]
        matches = self._full_names(label)
        if len(matches) > 1:
            raise ValueError(f"subgenre {label!r} stands under several genres: write one of {', '.join(matches)}")
        if not matches:
            raise ValueError(f"subgenre {label!r} is not in the label tree")
        return matches[0]

    def _full_names(self, name: str) -> list[str]:
        return self._by_own_name.get(_plain(name), [])

    @cached_property
    def _genres_by_plain(self) -> dict[str, str]:
        return {_plain(genre): genre for genre in self.genres}

    @cached_property
    def _subgenres_by_plain(self) -> dict[str, str]:
        return {_plain(label): label for label in self.subgenres}

    @cached_property
    def _by_own_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for label in self.subgenres:
            found.setdefault(_plain(split_label(label)[1]), []).append(label)
        return found


def join_label(genre: str, name: str) -> str:
    """Return the full name of a subgenre, `genre---subgenre`."""
    return f"{genre}{SEPARATOR}{name}"


def split_label(label: str) -> tuple[str, str]:
    """Return (genre, own name) of a full name, without the spaces around each."""
    if not is_full_name(label):
        raise ValueError(f"{label!r} is no full name of a subgenre (genre{SEPARATOR}subgenre)")
    genre, _, name = label.partition(SEPARATOR)
    return genre.strip(), name.strip()


def is_full_name(label: str) -> bool:
    """Return whether a label has a genre, the separator and a name of its own."""
    parts = label.split(SEPARATOR)
    return len(parts) == 2 and all(is_name(part.strip()) for part in parts)


def is_name(name: str) -> bool:
    """Return whether a genre or subgenre can have this name of its own."""
    return bool(name) and name == name.strip() and name.isprintable() and SEPARATOR not in name


def _plain(label: str) -> str:
    return SEPARATOR.join(" ".join(part.split()).casefold() for part in label.split(SEPARATOR))


def _check_name(name: str, what: str) -> None:
    if not is_name(name):
        raise ValueError(f"{what}: {name!r} is empty, has spaces around it, control characters or {SEPARATOR!r} in it")


def _require_distinct(names: Iterable[str], what: str) -> None:
    plain = [_plain(name) for name in names]
    twice = sorted({name for name in plain if plain.count(name) > 1})
    if twice:
        raise ValueError(f"{what} {twice[0]!r} more than once")


def _is_names(names: object) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _require_single_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    _require_distinct([name for name, _ in pairs], "the tree lists the genre")
    return dict(pairs)


def _quoted(value: str | list[str]) -> str:
    return json.dumps(value, ensure_ascii=False)


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
        """Return the tracks of one split, in the collection's order."""
        return [track for track in self.tracks if track.split == name]


def ask_for_genre(tree: LabelTree) -> str:
    """Word the question for the main genre, which names every genre of the tree."""
    names = [genre.replace("_", " ") for genre in tree.genres]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
    return f"Which one of these is the main genre of this music: {listed}?"
