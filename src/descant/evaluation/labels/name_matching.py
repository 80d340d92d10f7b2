"""The plain way to label music: ask a captioner for the primary genre, and look for labels' names in its answer."""

import re
from collections.abc import Iterator
from functools import lru_cache

from descant.data.tracks import LabelTree, split_label
from descant.evaluation.terms import PAUSE, denies, normalise, surface_forms


def ask_for_genre(tree: LabelTree) -> str:
    """The question, which names every genre of the tree."""
    names = [genre.replace("_", " ") for genre in tree.genres]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
    return f"Which one of these is the main genre of this music: {listed}?"


def match_labels(answer: str, tree: LabelTree) -> tuple[str | None, tuple[str, ...]]:
    """The genre and the subgenres (full names) that an answer names, by name or by a synonym of `synonyms.json`.

    Of several genres the one named first counts. Where only subgenres are named, the first one's genre does. A name
    that stands under several genres means the one under the answer's genre. What the answer denies is left out.
    """
    named = list(dict.fromkeys(_labels_in_order(answer, tree)))
    genres = [label for kind, label in named if kind == "genre"]
    subgenres = [label for kind, label in named if kind == "subgenre"]
    genre = genres[0] if genres else split_label(subgenres[0])[0] if subgenres else None
    kept = []
    for label in subgenres:
        twins = [other for other in subgenres if split_label(other)[1] == split_label(label)[1]]
        if len(twins) == 1 or split_label(label)[0] == genre:
            kept.append(label)
    return genre, tuple(kept)


def _labels_in_order(answer: str, tree: LabelTree) -> Iterator[tuple[str, str]]:
    pattern, meanings = _wordings(tuple(tree.genres), tuple(tree.subgenres))
    text = " | ".join(map(normalise, PAUSE.split(answer)))
    end, denied = 0, False
    for match in pattern.finditer(text):
        denied, end = denies(text[end : match.start()], denied), match.end()
        if not denied:
            yield from meanings[match[1]]


@lru_cache(maxsize=4)
def _wordings(
    genres: tuple[str, ...], subgenres: tuple[str, ...]
) -> tuple[re.Pattern[str], dict[str, list[tuple[str, str]]]]:
    """A pattern of all wordings of a tree's labels, the longest first, and the labels that each one means."""
    own: dict[str, list[tuple[str, str]]] = {}
    for kind, labels in (("genre", genres), ("subgenre", subgenres)):
        for label in labels:
            own.setdefault(normalise(label if kind == "genre" else split_label(label)[1]), []).append((kind, label))
    meanings = dict(own)
    for kind in ("genre", "subgenre"):
        for wording, canonical in surface_forms(kind).items():
            for name in (wording, normalise(canonical)):
                if name in own:  # a label's own name means that label; its synonyms, where no label is called so, too
                    for synonym in (wording, normalise(canonical)):
                        meanings.setdefault(synonym, own[name])
    listed = "|".join(re.escape(wording) for wording in sorted(meanings, key=len, reverse=True))
    return re.compile(rf"(?<![\w/])({listed})(?:e?s)?(?![\w/])"), meanings
