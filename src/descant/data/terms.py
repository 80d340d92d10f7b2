"""What a text says in the terms of the field: genres, instruments, moods, tempi that it names, and what it denies.

This file and that of the terms lie in the folder of every question-answering model, byte for byte the same.
"""

import re
import unicodedata
from collections.abc import Mapping
from functools import cache

from .term_tables import COMMON, DEMO

# No term reaches over these: "bass, drums" are two instruments, not a bass drum.
PAUSE = re.compile(r"[,;:!?()\n]|\.(?!\d)|(?<!\d)/|/(?!\d)|\s[-–—]\s")
DROPPED = {"a", "an", "the", "any"}
NEGATIONS = {"no", "without", "not", "isnt", "neither", "nor", "never", "lacks", "lacking"}
# "Yes" and "no" answer only where they open the answer alone: "drums with no fills" are drums.
BARE_ANSWERS = {word: rf"\A{word}(?= \||\Z)" for word in ("yes", "no")}
TABLES = (COMMON, DEMO)  # a later one wins


def normalise(text: str) -> str:
    """Lower case without accents, apostrophes, punctuation, articles or "any"; hyphens are spaces, 4/4 and r&b stay.

    As in the scorer of SQuAD (Rajpurkar et al. 2016), with hyphens read as spaces.
    """
    text = unicodedata.normalize("NFKD", text.casefold())
    text = re.sub(r"['’`]|[\u0300-\u036f]", "", text)
    text = re.sub(r"(?<!\d)/|/(?!\d)|[^\w/&#.]|_|\.(?!\d)", " ", text)
    return " ".join(word for word in text.split() if word not in DROPPED)


@cache
def surface_forms(question_type: str) -> dict[str, str]:
    """Map every normalised wording of a question type to its canonical answer."""
    forms: dict[str, str] = {}
    for table in TABLES:
        terms = table.get(question_type, {})
        if isinstance(terms, str):
            forms.update(surface_forms(terms))
            continue
        for canonical, synonyms in terms.items():
            forms.update(dict.fromkeys(map(normalise, [canonical, *synonyms]), canonical))
    return {wording: forms[normalise(canonical)] for wording, canonical in forms.items()}


@cache
def term_pattern(question_type: str) -> re.Pattern[str] | None:
    """Return what matches a whole wording of the type, the longest one first, also in the plural."""
    forms = sorted(surface_forms(question_type), key=len, reverse=True)
    wordings = "|".join(BARE_ANSWERS.get(form, re.escape(form)) for form in forms)
    return re.compile(rf"(?<![\w/])({wordings})(?:e?s)?(?![\w/])") if forms else None


def denies(gap: str, previous_denied: bool) -> bool:
    """Return whether the words between the last term and this one deny it: "no drums", "without drums or bass"."""
    words = gap.split()
    if words in (["or"], ["nor"]):
        return previous_denied
    return bool(words) and words[-1] in NEGATIONS


def read_terms(text: str, question_type: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the canonical answers of a question type that a text names, and those that it denies."""
    return read_wordings(text, term_pattern(question_type), surface_forms(question_type))


def read_wordings(
    text: str, pattern: re.Pattern[str] | None, forms: Mapping[str, str]
) -> tuple[frozenset[str], frozenset[str]]:
    """Return what the wordings of a text stand for, and what those stand for that it denies.

    pattern: matches a normalised wording as its first group; forms: wording → what it stands for.
    """
    end, denied = 0, False
    named: dict[bool, set[str]] = {False: set(), True: set()}
    text = " | ".join(map(normalise, PAUSE.split(text)))
    for match in pattern.finditer(text) if pattern else ():
        denied, end = denies(text[end : match.start()], denied), match.end()
        named[denied].add(forms[match[1]])
    return frozenset(named[False]), frozenset(named[True])


def find_terms(text: str, question_type: str) -> frozenset[str]:
    """Return the canonical answers of a question type that a text names, without what it denies."""
    return read_terms(text, question_type)[0]


# What captions claim

CATEGORIES = {
    "instruments": ("instruments",),
    "genres": ("genre", "subgenre"),
    "moods": ("mood",),
    "tempi": ("tempo_class",),
}
Claims = dict[str, frozenset[str]]


def find_claims(text: str) -> Claims:
    """Return the terms that a text names, by category."""
    return {name: frozenset().union(*(find_terms(text, kind) for kind in kinds)) for name, kinds in CATEGORIES.items()}


def agrees(term: str, other: str) -> bool:
    """Return whether two terms are equal or one names a kind of the other."""
    return term == other or term.endswith(f" {other}") or other.endswith(f" {term}")
