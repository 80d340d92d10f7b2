"""The tree of genres and their subgenres, kept in a JSON file."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SEPARATOR = "---"


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
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"genre {genre!r} lists its subgenre {twice[0]!r} more than once")

    @classmethod
    def read(cls, path: str | Path) -> "LabelTree":
        """Reads `{"genre": ["subgenre", …], …}`; a ValueError names the file and what is wrong in it."""
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8-sig"), object_pairs_hook=_require_single_names)
        except OSError as error:
            raise ValueError(f"label tree {path}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ValueError(f"label tree {path}: {error}") from error
        if not isinstance(found, dict) or not all(_is_names(names) for names in found.values()):
            raise ValueError(f'label tree {path}: expected {{"genre": ["subgenre", …], …}}')
        try:
            return cls({genre: tuple(names) for genre, names in found.items()})
        except ValueError as error:
            raise ValueError(f"label tree {path}: {error}") from error

    @classmethod
    def of(cls, genres: Iterable[str], subgenres: Iterable[str]) -> "LabelTree":
        """The tree of the labels that occur, in the order of the alphabet."""
        branches: dict[str, set[str]] = {genre: set() for genre in genres}
        for label in subgenres:
            genre, name = split_label(label)
            branches.setdefault(genre, set()).add(name)
        return cls({genre: tuple(sorted(branches[genre])) for genre in sorted(branches)})

    def write(self, path: str | Path) -> None:
        lines = (f"  {_quoted(genre)}: {_quoted(list(names))}" for genre, names in self.branches.items())
        temporary = Path(f"{path}.part")
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        temporary.replace(path)

    @cached_property
    def genres(self) -> tuple[str, ...]:
        """In the order of the file."""
        return tuple(self.branches)

    @cached_property
    def subgenres(self) -> tuple[str, ...]:
        """Full names, in the order of the file."""
        return tuple(join_label(genre, name) for genre, names in self.branches.items() for name in names)

    def parent(self, subgenre: str) -> str:
        """The genre of a subgenre's full name."""
        if subgenre not in self._known:
            raise ValueError(f"the label tree has no subgenre {subgenre!r}")
        return split_label(subgenre)[0]

    def display(self, subgenre: str) -> str:
        """A subgenre's own name, with its genre where another genre has one of that name: `disco (pop)`."""
        genre, name = self.parent(subgenre), split_label(subgenre)[1]
        return f"{name} ({genre})" if len(self._full_names(name)) > 1 else name

    def find_genre(self, genre: str) -> str:
        """The tree's spelling of a genre, whatever its case and spaces; ValueError where it has none."""
        for known in self.genres:
            if _plain(known) == _plain(genre):
                return known
        raise ValueError(f"genre {genre!r} is not in the label tree")

    def find_subgenre(self, label: str) -> str:
        """The full name that a label means: a full name, or a subgenre's own name where one genre alone has it."""
        for known in self.subgenres:
            if _plain(known) == _plain(label):
                return known
        matches = self._full_names(label)
        if len(matches) > 1:
            raise ValueError(f"subgenre {label!r} stands under several genres: write one of {', '.join(matches)}")
        if not matches:
            raise ValueError(f"subgenre {label!r} is not in the label tree")
        return matches[0]

    def _full_names(self, name: str) -> list[str]:
        return [known for known in self.subgenres if _plain(split_label(known)[1]) == _plain(name)]

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.subgenres)


def join_label(genre: str, name: str) -> str:
    """The full name of a subgenre."""
    return f"{genre}{SEPARATOR}{name}"


def split_label(label: str) -> tuple[str, str]:
    """(genre, own name) of a full name, without the spaces around each."""
    genre, separator, name = label.partition(SEPARATOR)
    if not separator or not genre.strip() or not name.strip():
        raise ValueError(f"{label!r} is no full name of a subgenre (genre{SEPARATOR}subgenre)")
    return genre.strip(), name.strip()


def _plain(label: str) -> str:
    return SEPARATOR.join(" ".join(part.split()).casefold() for part in label.split(SEPARATOR))


def _check_name(name: str, what: str) -> None:
    if not name.strip() or name != name.strip() or not name.isprintable() or SEPARATOR in name:
        raise ValueError(f"{what}: {name!r} is empty, has spaces around it, control characters or {SEPARATOR!r} in it")


def _is_names(names: object) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _require_single_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"the genre {twice[0]!r} stands more than once")
    return dict(pairs)


def _quoted(value: str | list[str]) -> str:
    return json.dumps(value, ensure_ascii=False)
