"""Answers about whole tracks out of those about their windows: votes on questions, recurring claims of captions.

Predictions that are equal after normalisation are one vote; a window's weight is its confidence, the exponential of
the length-normalised log-probability. A caption of the track states what the captions of its windows claim more than
once.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any, Protocol, TypeVar

from descant.data.audio import format_stamp
from descant.data.terms import CATEGORIES, agrees, normalise, read_terms
from descant.models.lp_music_caps.track_music import join_spans

RECURRING = 0.25  # of the windows, and two at least, that must claim what the track's caption states
SHOWN_TERMS = 5  # of a category, in a caption


class Answer(Protocol):
    """A line of answers.jsonl about one window, as far as it is read here; `error` where there is no prediction."""

    @property
    def audio(self) -> str:
        """The name of the sound."""

    @property
    def start_s(self) -> float | None:
        """Where the window begins, in seconds; None for a file that cannot be read."""

    @property
    def end_s(self) -> float | None:
        """Where it ends, in seconds."""

    @property
    def question(self) -> str | None:
        """The question; None for a caption."""

    @property
    def prediction(self) -> str | None:
        """What was answered."""

    @property
    def score(self) -> float | None:
        """The length-normalised log-probability of the prediction."""

    @property
    def error(self) -> str | None:
        """Why there is no prediction."""


Given = TypeVar("Given", bound=Answer)


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
class TrackAnswer:
    """The answer to one question (None: a caption) about a track.

    windows: how many windows say so, `of` how many. heard: their seconds, [[start_s, end_s], …]. confidence: their
    share of the weights of all windows. others: the other predictions and how many windows gave each.
    """

    question: str | None
    prediction: str
    windows: int
    of: int
    heard: list[list[float]]
    confidence: float
    others: dict[str, int] = field(default_factory=dict)

    def to_record(self, first: Mapping[str, Any]) -> dict[str, Any]:
        """Return a line of answers.jsonl, with more fields; `first` is the record of one of the windows."""
        start_s, end_s = min(span[0] for span in self.heard), max(span[1] for span in self.heard)
        return {
            **first, "start_s": start_s, "end_s": end_s, "score": None, **asdict(self),
            "confidence": round(self.confidence, 4),
        }  # fmt: skip

    def to_text(self) -> str:
        """Return the answer, the seconds that it rests on and the share of the windows: one line."""
        spans = ", ".join(format_stamp(*span) for span in self.heard)
        share = f", {self.windows} of {self.of} windows" if self.of > 1 else ""
        return f"{self.prediction}  ({spans}{share})"


def answer_track(question: str | None, windows: Sequence[WindowAnswer]) -> TrackAnswer:
    """Return one answer for a track from those about its windows, of which there is at least one."""
    if question is None and len(windows) > 1:
        caption = write_caption([window.prediction for window in windows])
        if caption:
            heard = join_spans((window.start_s, window.end_s) for window in windows)
            return TrackAnswer(None, caption, len(windows), len(windows), heard, 1.0)
    votes: defaultdict[str, list[WindowAnswer]] = defaultdict(list)
    for window in windows:
        votes[normalise(window.prediction)].append(window)
    ordered = sorted(votes.values(), key=lambda group: -sum(window.weight for window in group))
    weights = [sum(window.weight for window in group) for group in ordered]
    return TrackAnswer(
        question=question,
        prediction=max(ordered[0], key=lambda window: window.weight).prediction,
        windows=len(ordered[0]),
        of=len(windows),
        heard=join_spans((window.start_s, window.end_s) for window in ordered[0]),
        confidence=weights[0] / sum(weights),
        others={group[0].prediction: len(group) for group in ordered[1:]},
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


def pool_answers(answers: Iterable[Given]) -> Iterator[tuple[Given, TrackAnswer | None]]:
    """Pool answers about windows, each recording's together, to one a question and track.

    Yields a window's answer and the track's; of a recording that cannot be read, its failed answer and None.
    """
    for asked in split_recordings(answers):
        for question, same in asked.items():
            if same[0].error is not None:
                yield same[0], None
                continue
            yield same[0], answer_track(question, list(map(read_window, same)))


def read_window(answer: Answer) -> WindowAnswer:
    """Return what a line of answers.jsonl says about its window."""
    return WindowAnswer(answer.start_s or 0.0, answer.end_s or 0.0, answer.prediction or "", answer.score)


def split_recordings(answers: Iterable[Given]) -> Iterator[dict[str | None, list[Given]]]:
    """Yield the answers of one recording after another, by question; a failed one comes by itself.

    A recording may follow itself: it ends where a question is answered about the same window again.
    """
    asked: dict[str | None, list[Given]] = {}
    last: str | None = None
    seen: set[tuple[str, float | None, str | None]] = set()
    for answer in answers:
        key = answer.audio, answer.start_s, answer.question
        if answer.error is not None and answer.start_s is not None:  # of one window
            yield {answer.question: [answer]}
            continue
        if asked and (answer.audio != last or answer.error is not None or key in seen):
            yield asked
            asked, seen = {}, set()
        last = answer.audio
        if answer.error is not None:
            yield {answer.question: [answer]}
            continue
        seen.add(key)
        asked.setdefault(answer.question, []).append(answer)
    if asked:
        yield asked
