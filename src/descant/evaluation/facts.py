"""What captions claim against what tags say: instruments, genres, moods and tempi that are named, missed, invented.

A claim is a term of `synonyms.json` (see `terms.py`) that a text names and does not deny. Claim and tag agree where
they are equal or one is a kind of the other by name ("guitar" and "electric guitar"). Precision is the share of the
claims that agree with a tag, recall the share of the tags that agree with a claim, over all clips. Tags are never
complete: read an invented claim as "not among the tags".
"""

import ast
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from descant.data.tables import AnnotationError, read_table
from descant.evaluation.exact import find_terms
from descant.evaluation.items import CAPTION, Item, text_of
from descant.evaluation.measures import Measure, ratio_of

CATEGORIES = {
    "instruments": ("instruments",),
    "genres": ("genre", "subgenre"),
    "moods": ("mood",),
    "tempi": ("tempo_class",),
}
Claims = dict[str, frozenset[str]]


def find_claims(text: str) -> Claims:
    """The terms that a text names, by category."""
    return {name: frozenset().union(*(find_terms(text, kind) for kind in kinds)) for name, kinds in CATEGORIES.items()}


def agrees(term: str, other: str) -> bool:
    """Whether two terms are equal or one names a kind of the other."""
    return term == other or term.endswith(f" {other}") or other.endswith(f" {term}")


def confirmed(terms: Iterable[str], by: Iterable[str]) -> set[str]:
    """The terms that agree with one of the others."""
    others = list(by)
    return {term for term in terms if any(agrees(term, other) for other in others)}


def claim_measures(predictions: Sequence[str], tags: Sequence[Sequence[str]]) -> list[Measure]:
    """Precision and recall of the claims, over all categories and for each."""
    claimed = [find_claims(text) for text in predictions]
    tagged = [find_claims(". ".join(words)) for words in tags]
    measures: list[Measure] = []
    for label, names in (("claims", tuple(CATEGORIES)), *((name, (name,)) for name in CATEGORIES)):
        measures += [agreement(f"{label}_precision", claimed, tagged, names)]
        measures += [agreement(f"{label}_recall", tagged, claimed, names)]
    return measures


def agreement(name: str, terms: Sequence[Claims], others: Sequence[Claims], categories: Sequence[str]) -> Measure:
    """The share of the terms that the others confirm."""
    pairs = list(zip(terms, others, strict=True))
    part = [sum(len(confirmed(these[c], those[c])) for c in categories) for these, those in pairs]
    return ratio_of(name, part, [sum(len(these[c]) for c in categories) for these, _ in pairs])


def list_disagreements(predictions: Sequence[str], tags: Sequence[Sequence[str]]) -> dict[str, Counter[str]]:
    """How often each term was `invented` (claimed, not tagged) and `missed` (tagged, not claimed)."""
    invented, missed = Counter(), Counter()
    for text, words in zip(predictions, tags, strict=True):
        claimed, tagged = find_claims(text), find_claims(". ".join(words))
        for name in CATEGORIES:
            invented.update(claimed[name] - confirmed(claimed[name], tagged[name]))
            missed.update(tagged[name] - confirmed(tagged[name], claimed[name]))
    return {"invented": invented, "missed": missed}


def read_tags(path: str | Path) -> dict[str, list[str]]:
    """`aspect_list` of a MusicCaps table, by clip id, by ytid and by caption."""
    from descant.data.annotations import make_clip_id

    tags: dict[str, list[str]] = {}
    for _, record in read_table(path, [{"aspect_list"}]):
        if isinstance(record, dict):
            words = parse_aspects(record["aspect_list"])
            names = [text_of(record, ("clip_id",)), text_of(record, ("ytid",)), text_of(record, CAPTION)]
            if "ytid" in record and "start_s" in record:
                names.append(make_clip_id(record["ytid"], float(record["start_s"]), float(record["end_s"])))
            tags.update({name: words for name in names if name})
    return tags


def parse_aspects(value: str | list[str]) -> list[str]:
    """A list, or MusicCaps' text of a Python list."""
    try:
        parsed = ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError) as error:
        raise AnnotationError(f"aspect_list {value!r} is not a list of tags") from error
    return [str(word) for word in parsed]


def tags_of(item: Item, tags: dict[str, list[str]]) -> list[str] | None:
    """The tags of an item's clip, found by its clip id or by the caption that it is compared with."""
    return next((tags[name] for name in (item.clip, *item.references) if name in tags), None)
