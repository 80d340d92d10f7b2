"""What a search asks for: facts that a song should have or lack, the words beside them, and conditions in SQL."""

import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from descant.data.terms import agrees, normalise, read_terms, read_wordings, surface_forms
from descant.program import one_line

# Question of a description → the types of terms that name its options.
KINDS = {
    "genre": ("genre", "subgenre"), "mood": ("mood",), "tempo_class": ("tempo_class",),
    "instruments": ("instruments",), "metre": ("metre",),
}  # fmt: skip
SINGING = dict.fromkeys(("vocals", "vocal", "singing", "singer", "voice", "voices", "sung", "sings"), "vocals:yes")
VOICES = SINGING | {"instrumental": "vocals:no"}
VOICES |= dict.fromkeys(("female", "woman", "women"), "voice:female")
VOICES |= dict.fromkeys(("male", "man", "men"), "voice:male")
VOICE_PATTERN = re.compile(rf"(?<!\w)({'|'.join(VOICES)})(?!\w)")
# Words of a query that say nothing about a song.
STOP_WORDS = frozenset((
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "from", "has", "have", "i", "in", "is", "it", "its",
    "like", "me", "music", "of", "on", "or", "piece", "please", "some", "something", "song", "songs", "sound",
    "sounds", "that", "the", "there", "this", "to", "track", "tracks", "want", "which", "with", "without", "no", "not",
    "any",
))  # fmt: skip
FUNCTIONS = frozenset((
    "abs", "coalesce", "glob", "ifnull", "instr", "length", "like", "lower", "max", "min", "nullif", "round", "substr",
    "trim", "upper",
))  # fmt: skip
LONGEST_CONDITION = 2_000  # characters
MOST_STEPS, STEPS_AT_ONCE = 200_000_000, 1_000_000  # of SQLite's machine, for one condition

Fact = str  # "question:option" of a description


@dataclass(frozen=True)
class Query:
    """A search in words: each wanted or unwanted fact as the options that would show it, and the words that count.

    text: the query without what it denies, for sentence embeddings.
    """

    wanted: tuple[tuple[Fact, ...], ...]
    unwanted: tuple[tuple[Fact, ...], ...]
    words: tuple[str, ...]
    text: str


def parse_query(text: str, options: Sequence[Fact]) -> Query:
    """Read a search such as "calm piano without drums, slow"; facts that no song was asked about are words only.

    options: what the songs of an index were asked about, `question:option`.
    """
    text = deny_together(text)
    wanted: list[tuple[Fact, ...]] = []
    unwanted: list[tuple[Fact, ...]] = []
    denied: set[str] = set()
    for name, kinds in KINDS.items():
        known = [option for option in options if option.startswith(f"{name}:")]
        for kind in kinds:
            named, absent = read_terms(text, kind)
            wanted += _match(named, known, kinds)
            unwanted += _match(absent, known, kinds)
            denied |= absent
    voices, silent = read_wordings(text, VOICE_PATTERN, VOICES)
    for fact, target in [(one, wanted) for one in voices] + [(one, unwanted) for one in silent]:
        _add_voice(fact, target, unwanted if target is wanted else wanted, set(options))
    positive = _drop_denied(text)
    words = tuple(word for word in re.findall(r"\w+", normalise(positive)) if word not in STOP_WORDS)
    return Query(tuple(dict.fromkeys(wanted)), tuple(dict.fromkeys(unwanted)), words, positive.strip() or text)


def deny_together(text: str) -> str:
    """Return "without drums, without vocals" for "without drums and vocals", in which both are denied.

    Of moods and tempi, "without drums and slow" does not say so; "no drums and a piano" never does.
    """
    changed = ""
    while changed != text:
        changed = text
        for pattern in denied_lists():
            text = pattern.sub(r"\1, \2", text)
    return text


@cache
def denied_lists() -> list[re.Pattern[str]]:
    """Return what matches a denial up to the conjunction in front of a further instrument or voice."""
    names = sorted({*surface_forms("instruments"), *SINGING} - {"sung", "sings"}, key=len, reverse=True)
    further = rf"(?=\s+(?:any\s+)?(?:{'|'.join(map(re.escape, names))})(?:e?s)?\b)"
    return [
        re.compile(rf"(\b({denial})\b[^,;.:!?]*?)\s+(?:{joined}){further}", re.IGNORECASE)
        for denial, joined in (("without", "and|n?or"), ("no", "n?or"))
    ]


def _match(terms: Iterable[str], options: Sequence[Fact], kinds: Sequence[str]) -> list[tuple[Fact, ...]]:
    """Return for each term the options that mean the same, or a kind of it; nothing for a term without any."""
    matched = []
    for term in sorted(terms):
        same = [option for option in options if any(_means(option, term, kind) for kind in kinds)]
        matched += [tuple(same)] if same else []
    return matched


def _means(option: Fact, term: str, kind: str) -> bool:
    name = normalise(option.partition(":")[2])
    meaning = surface_forms(kind).get(name, name)
    return meaning == term or (kind == "instruments" and agrees(meaning, term))


def _add_voice(
    fact: Fact, target: list[tuple[Fact, ...]], opposite: list[tuple[Fact, ...]], options: set[Fact]
) -> None:
    """Add what is said of singing: "instrumental" denies it."""
    if fact == "vocals:no" and "vocals:yes" in options:
        opposite.append(("vocals:yes",))
    elif fact in options:
        target.append((fact,))


# A denial reaches to the next pause, "and" or "but".
DENIED = re.compile(
    r"\b(?:no|without|not|neither|nor|never|lacks|lacking)\s+[^,;.:!?]*?(?=[,;.:!?]|\bbut\b|\band\b|$)", re.IGNORECASE
)


def _drop_denied(text: str) -> str:
    """Return a query without its denials: "calm piano, slow" of "calm piano without drums, slow"."""
    return re.sub(r"\s*,\s*,", ",", DENIED.sub("", text)).strip(" ,")


# Conditions


def select_ids(connection: sqlite3.Connection, condition: str) -> list[int]:
    """Return the ids of the songs for which a condition holds, such as "genre = 'jazz' and bpm < 100".

    It is one SQL expression over the columns of `tracks`, on a connection that may only read; what is more than an
    expression, reads anything else or calls other functions raises ValueError.
    """
    _require_expression(condition)
    selects = 0

    def allow(action: int, first: str | None, second: str | None, *_: object) -> int:
        nonlocal selects
        if action == sqlite3.SQLITE_SELECT:
            selects += 1
            return sqlite3.SQLITE_OK if selects == 1 else sqlite3.SQLITE_DENY
        readable = action == sqlite3.SQLITE_READ and first == "tracks"
        known = action == sqlite3.SQLITE_FUNCTION and str(second).lower() in FUNCTIONS
        return sqlite3.SQLITE_OK if readable or known else sqlite3.SQLITE_DENY

    steps = iter(range(MOST_STEPS // STEPS_AT_ONCE))
    connection.set_progress_handler(lambda: next(steps, None) is None, STEPS_AT_ONCE)
    connection.set_authorizer(allow)
    try:
        return [row[0] for row in connection.execute(f"SELECT id FROM tracks WHERE ({condition}\n)")]
    except sqlite3.Error as error:
        columns = ", ".join(_list_columns(connection))
        raise ValueError(f"--where {condition!r}: {one_line(error)}; it is one expression over {columns}") from error
    finally:
        connection.set_authorizer(None)
        connection.set_progress_handler(None, 0)


def _list_columns(connection: sqlite3.Connection) -> list[str]:
    connection.set_authorizer(None)
    connection.set_progress_handler(None, 0)
    return [row[1] for row in connection.execute("PRAGMA table_info(tracks)")]


STATEMENTS = re.compile(r"\b(?:select|with|values|pragma|attach)\b", re.IGNORECASE)
STRINGS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")


def _require_expression(condition: str) -> None:
    """Raise ValueError for what would leave its brackets: comments, semicolons, brackets that do not match."""
    bare = STRINGS.sub("x", condition)
    depth = 0
    for character in bare:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            break
    wrong = [mark for mark in ("'", '"', "`", "[", ";", "--", "/*", "\0", "?", "$", "@", ":") if mark in bare]
    wrong += STATEMENTS.findall(bare)
    if depth or wrong or not bare.strip() or len(condition) > LONGEST_CONDITION:
        raise ValueError(f"--where {condition!r} is no single expression, such as \"genre = 'jazz' and bpm < 100\"")


def matched_facts(query: Query, likely: Mapping[Fact, float]) -> dict[str, float]:
    """Return the probability of each fact that a query names or denies, by the likeliest option that shows it."""
    found = {}
    for group in (*query.wanted, *query.unwanted):
        known = {option: likely[option] for option in group if option in likely}
        if known:
            best = max(known, key=known.__getitem__)
            found[best] = round(known[best], 3)
    return found
