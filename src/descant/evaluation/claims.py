"""What texts claim against what is known: terms that captions name, tags lack, or closed questions answer otherwise.

A claim is a term of `descant.data.terms` that a text names and does not deny. Claim and tag agree where they are equal
or one is a kind of the other by name ("guitar" and "electric guitar"). Precision is the share of the claims that agree
with a tag, recall the share of the tags that agree with a claim, over all clips. Tags are never complete: read an
invented claim as "not among the tags". The answers to closed questions about a clip are complete: what they do not
confirm, they contradict.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from descant.data.annotations import Row, make_clip_id, parse_tags
from descant.data.tables import Problem, Record, name_problem, read_table
from descant.data.terms import CATEGORIES, KNOWN, Claims, confirmed, find_claims, find_terms, read_claims, unite_voices
from descant.evaluation.exact import is_closed
from descant.evaluation.measures import Measure, Sums, ratio_of
from descant.evaluation.predictions_file import CAPTION, CLIP, Item, first_value, text_of, texts_of
from descant.models.lp_music_caps.sure_claims import find_faults

CONSISTENT = "claims_consistent"
CHECKED, GRAMMATICAL = "checked_claims", "grammatical"  # of a long answer, the mean and the share


@dataclass(frozen=True)
class Tags:
    """The tags of each clip, by every name that it has, and each record that was left out."""

    by_name: dict[str, list[str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def claim_measures(predictions: Sequence[str], tags: Sequence[Sequence[str]]) -> list[Measure]:
    """Measure precision and recall of the claims, over all categories and for each."""
    claimed = [find_claims(text) for text in predictions]
    tagged = [find_claims(". ".join(words)) for words in tags]
    measures: list[Measure] = []
    for label, names in (("claims", tuple(CATEGORIES)), *((name, (name,)) for name in CATEGORIES)):
        measures += [agreement(f"{label}_precision", claimed, tagged, names)]
        measures += [agreement(f"{label}_recall", tagged, claimed, names)]
    return measures


def agreement(name: str, terms: Sequence[Claims], others: Sequence[Claims], categories: Sequence[str]) -> Measure:
    """Measure the share of the terms that the others confirm."""
    pairs = list(zip(terms, others, strict=True))
    part = [sum(len(confirmed(these[c], those[c])) for c in categories) for these, those in pairs]
    return ratio_of(name, part, [sum(len(these[c]) for c in categories) for these, _ in pairs])


def list_disagreements(predictions: Sequence[str], tags: Sequence[Sequence[str]]) -> dict[str, Counter[str]]:
    """Count how often each term was `invented` (claimed, not tagged) and `missed` (tagged, not claimed)."""
    invented, missed = Counter[str](), Counter[str]()
    for text, words in zip(predictions, tags, strict=True):
        claimed, tagged = find_claims(text), find_claims(". ".join(words))
        for name in CATEGORIES:
            invented.update(claimed[name] - confirmed(claimed[name], tagged[name]))
            missed.update(tagged[name] - confirmed(tagged[name], claimed[name]))
    return {"invented": invented, "missed": missed}


def read_tags(path: str | Path) -> Tags:
    """Read `aspect_list` of a MusicCaps table, by clip id, by ytid and by caption.

    Raises:
        AnnotationError: the file cannot be read, or has no such column.
    """
    tags = Tags()
    for row, record in read_table(path).select([frozenset({"aspect_list"})]):
        if isinstance(record, Problem):
            tags.problems.append(record)
            continue
        try:
            words = parse_tags(record["aspect_list"])
            tags.by_name.update(dict.fromkeys(_names_of(record), words))
        except Exception as error:  # whatever one record does, the others are read
            tags.problems.append(name_problem(path, row, first_value(record, CLIP), error))
    return tags


def _names_of(record: Record) -> list[str]:
    """Return what a record may be looked up by: its clip id, its ytid, its caption."""
    names = [text_of(record, "clip_id"), text_of(record, "ytid"), next(iter(texts_of(record, CAPTION)), None)]
    if "ytid" in record and "start_s" in record:
        names.append(make_clip_id(record["ytid"], float(record["start_s"]), float(record["end_s"])))
    return [name for name in names if name]


def tags_of(item: Item, tags: Mapping[str, list[str]]) -> list[str] | None:
    """Return the tags of an item's clip, looked up by its clip id or by the caption that it is compared with."""
    return next((tags[name] for name in (item.clip, *item.references) if name in tags), None)


def gather_facts(rows: Iterable[Row]) -> dict[str, Claims]:
    """Return what the answers to closed questions say of each clip: the terms of every category of `KNOWN`."""
    category = {kind: name for name, kinds in KNOWN.items() for kind in kinds}
    facts: defaultdict[str, defaultdict[str, frozenset[str]]] = defaultdict(lambda: defaultdict(frozenset))
    for row in rows:
        kind = row.question_type or ""
        if is_closed(row.question_type) and kind in category:
            facts[row.clip_id][category[kind]] |= find_terms(row.answer, kind)
    for known in facts.values():
        known["voices"] = unite_voices(known["voices"])
    return {clip: dict(known) for clip, known in facts.items()}


def count_claims(measure: Sums) -> int:
    """Return how many claims a measure of `consistency_measures` rests on."""
    return int(measure.counts[:, 1].sum())


def consistency_measures(items: Sequence[Item], facts: Mapping[str, Claims]) -> list[Sums]:
    """Measure the share of the claims of long answers and captions that contradict nothing known of their clips.

    Claims of a category of which nothing is known do not count. Returns the share over all categories
    (`claims_consistent`), then that of each; nothing where no claim can be checked.
    """
    checked = [_check_claims(item, facts.get(item.clip, {})) for item in items]
    names = [name for name in KNOWN if any(name in one for one in checked)]
    groups = {"": names, **{f"_{name}": [name] for name in names}} if names else {}
    return [_share(CONSISTENT + label, checked, group) for label, group in groups.items()]


def long_measures(items: Sequence[Item], facts: Mapping[str, Claims]) -> list[Sums]:
    """Measure how many claims a long answer makes that can be checked, and the share of grammatical ones.

    Without the first, an answer that says nothing would be the best. Grammatical: `find_faults` has none. Returns
    nothing where there are no long answers, or nothing is known of their clips.
    """
    checked = [
        None if is_closed(item.question_type) else _check_claims(item, facts.get(item.clip, {})) for item in items
    ]
    if not any(checked):
        return []
    long = [int(one is not None) for one in checked]
    counts = [sum(number for _, number in (one or {}).values()) for one in checked]
    pairs = zip(items, checked, strict=True)
    whole = [int(one is not None and not find_faults(item.prediction)) for item, one in pairs]
    return [ratio_of(CHECKED, counts, long), ratio_of(GRAMMATICAL, whole, long)]


def _share(name: str, checked: Sequence[Mapping[str, tuple[int, int]]], categories: Sequence[str]) -> Sums:
    counts = np.array([[one.get(category, (0, 0)) for category in categories] for one in checked]).sum(axis=1)
    return ratio_of(name, counts[:, 0], counts[:, 1])


def _check_claims(item: Item, known: Claims) -> dict[str, tuple[int, int]]:
    """Return, for each category with claims that can be checked, how many are consistent, and how many there are."""
    if is_closed(item.question_type):
        return {}
    claims = {name: terms for name, terms in read_claims(item.prediction).items() if terms and known.get(name)}
    return {name: (len(confirmed(terms, known[name])), len(terms)) for name, terms in claims.items()}
