"""One answer for a whole track out of those about its windows: votes on questions, recurring claims of captions.

Predictions that are equal after normalisation are one vote; a window's weight is its confidence, the exponential of
the length-normalised log-probability. A caption of the track states what the captions of its windows claim more than
once. This file lies in the folder of every question-answering model, byte for byte the same.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from .terms import CATEGORIES, agrees, normalise, read_terms
from .track_music import join_spans

RECURRING = 0.25  # of the windows, and two at least, that must claim what the track's caption states
SHOWN_TERMS = 5  # of a category, in a caption


@dataclass(frozen=True)
class WindowAnswer:
    """What was answered about one window: its seconds, the prediction, its length-normalised log-probability."""

    start_s: float
    end_s: float
    prediction: str
    score: float | None = None

    @property
    def weight(self) -> float:
        """Return the confidence, between 0 and 1."""
        return 1.0 if self.score is None else math.exp(min(self.score, 0.0))


@dataclass(frozen=True)
class PooledAnswer:
    """The answer about a track that its windows give.

    windows: how many of them say so, `of` how many. heard: their seconds, [[start_s, end_s], …]. confidence: their
    share of the weights of all windows. others: the other predictions and how many windows gave each. score: the
    length-normalised log-probability of the surest window that says so; None for what no window says by itself.
    """

    prediction: str
    windows: int
    of: int
    heard: list[list[float]]
    confidence: float
    others: dict[str, int] = field(default_factory=dict)
    score: float | None = None


def answer_track(question: str | None, windows: Sequence[WindowAnswer]) -> PooledAnswer:
    """Return one answer for a track from those about its windows, of which there is at least one.

    question: None asks for a caption.
    """
    if question is None and len(windows) > 1:
        caption = write_caption([window.prediction for window in windows])
        if caption:
            heard = join_spans((window.start_s, window.end_s) for window in windows)
            return PooledAnswer(caption, len(windows), len(windows), heard, 1.0)
    votes: defaultdict[str, list[WindowAnswer]] = defaultdict(list)
    for window in windows:
        votes[normalise(window.prediction)].append(window)
    ordered = sorted(votes.values(), key=lambda group: -sum(window.weight for window in group))
    weights = [sum(window.weight for window in group) for group in ordered]
    surest = max(ordered[0], key=lambda window: window.weight)
    return PooledAnswer(
        prediction=surest.prediction,
        windows=len(ordered[0]),
        of=len(windows),
        heard=join_spans((window.start_s, window.end_s) for window in ordered[0]),
        confidence=weights[0] / sum(weights),
        others={group[0].prediction: len(group) for group in ordered[1:]},
        score=surest.score,
    )


def write_caption(captions: Sequence[str]) -> str:
    """Write what the captions of a track's windows claim more than once, the commonest first; "" for nothing.

    Genres and tempi that exclude each other, and instruments that some windows deny, are named with their windows.
    """
    read = [read_categories(caption) for caption in captions]
    named = {name: Counter(term for one in read for term in one[name][0]) for name in CATEGORIES}
    denied = Counter(term for one in read for term in one["instruments"][1])
    least = max(2, math.ceil(RECURRING * len(captions)))
    kept = {name: [term for term, count in ranked(named[name]) if count >= least] for name in CATEGORIES}
    sentences = [
        *state_genre(kept["genres"], named["genres"], len(captions)),
        *state_list(kept["instruments"][:SHOWN_TERMS], "is heard", "are heard"),
        *state_list(kept["moods"][:SHOWN_TERMS], prefix="The mood is "),
        *state_tempo(kept["tempi"], named["tempi"], len(captions)),
        *(
            f"Windows disagree about {term}: {named['instruments'][term]} of {len(captions)} name it, {count} deny it."
            for term, count in ranked(denied)
            if named["instruments"][term]
        ),
    ]
    return " ".join(sentences)


def read_categories(caption: str) -> dict[str, tuple[set[str], set[str]]]:
    """Return what a caption names and denies, by category."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for name, kinds in CATEGORIES.items():
        read = [read_terms(caption, kind) for kind in kinds]
        found[name] = set().union(*(one[0] for one in read)), set().union(*(one[1] for one in read))
    return found


def ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    """Return terms and their counts, the commonest first, equal ones by name."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def state_genre(genres: Sequence[str], counts: Mapping[str, int], windows: int) -> Iterator[str]:
    """State the commonest genre with those that are kinds of it, and name the ones that are not."""
    if genres:
        same = [genre for genre in genres if is_kind(genre, genres[0])]
        others = [genre for genre in genres if genre not in same]
        yield f"It is {max(same, key=len)} music{list_others(others, counts, windows)}."


def is_kind(genre: str, other: str) -> bool:
    """Return whether all words of one genre are among those of the other: "waltz", "country" and "country waltz"."""
    words, others = set(genre.split()), set(other.split())
    return words <= others or others <= words


def state_tempo(tempi: Sequence[str], counts: Mapping[str, int], windows: int) -> Iterator[str]:
    """State the commonest tempo, and name the others."""
    if tempi:
        yield f"The tempo is {tempi[0]}{list_others(tempi[1:], counts, windows)}."


def list_others(terms: Sequence[str], counts: Mapping[str, int], windows: int) -> str:
    """Return `, but slow in 3 of 7 windows` for terms that exclude what was stated."""
    return f", but {join_words([f'{term} in {counts[term]} of {windows} windows' for term in terms])}" if terms else ""


def state_list(terms: Sequence[str], one: str = "", many: str = "", prefix: str = "") -> Iterator[str]:
    """State a list of terms, less those that another one names a kind of."""
    plain = {term for pair in combinations(terms, 2) for term in pair if agrees(*pair) and term == min(pair, key=len)}
    listed = [term for term in terms if term not in plain]
    if listed and prefix:
        yield f"{prefix}{join_words(listed)}."
    elif listed:
        words = join_words(listed)
        yield f"{words[:1].upper()}{words[1:]} {one if len(listed) == 1 and not words.endswith('s') else many}."


def join_words(words: Sequence[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


__all__ = ["PooledAnswer", "WindowAnswer", "answer_track", "write_caption"]
