"""Scores that can be resampled: each keeps what every item adds, so intervals and tests need no second scoring."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from descant.evaluation.bootstrap import Interval, draws, percentiles, resample, sum_by_group


@dataclass(frozen=True)
class Sums:
    """A score computed from sums over the items: a mean, a ratio, corpus BLEU."""

    name: str
    counts: np.ndarray  # (items, k)
    combine: Callable[[np.ndarray], np.ndarray]  # sums (n, k) → scores (n,)

    def value(self) -> float:
        """The score of all items."""
        return float(self.combine(self.counts.sum(axis=0, keepdims=True))[0])

    def replicates(self, clips: Sequence[Hashable], seed: int = 0, n: int = 1000) -> np.ndarray:
        """The score of `n` samples of the clips, drawn with replacement → (n,)."""
        return self.combine(resample(sum_by_group(self.counts, clips), seed, n))

    def interval(self, clips: Sequence[Hashable], seed: int = 0, n: int = 1000, level: float = 0.95) -> Interval:
        """The percentile interval."""
        return percentiles(self.replicates(clips, seed, n), level)


@dataclass(frozen=True)
class Distinct:
    """A score computed from the set of different words (or captions) that the items use together."""

    name: str
    words: list[set[str]]  # a set for each item
    known: frozenset[str] | None = None  # given: the share of the words that are not in it; else: their number

    def value(self) -> float:
        """The score of all items."""
        used = set().union(*self.words)
        return float(len(used)) if self.known is None else len(used - self.known) / max(len(used), 1)

    def replicates(self, clips: Sequence[Hashable], seed: int = 0, n: int = 1000) -> np.ndarray:
        """The score of `n` samples of the clips, drawn with replacement → (n,)."""
        number = {word: index for index, word in enumerate(sorted(set().union(*self.words)))}
        order = {clip: index for index, clip in enumerate(dict.fromkeys(clips))}
        uses = {(order[clip], number[word]) for clip, words in zip(clips, self.words, strict=True) for word in words}
        if not uses:
            return np.zeros(n)
        clip_of, word_of = np.array(sorted(uses)).T
        counted = np.array([self.known is None or word not in self.known for word in number], dtype=bool)
        scores = []
        for drawn in (times_drawn > 0 for block in draws(len(order), seed, n) for times_drawn in block):
            used = np.bincount(word_of[drawn[clip_of]], minlength=len(number)) > 0
            scores.append(used[counted].sum() / (1 if self.known is None else max(used.sum(), 1)))
        return np.array(scores)

    def interval(self, clips: Sequence[Hashable], seed: int = 0, n: int = 1000, level: float = 0.95) -> Interval:
        """The percentile interval less the bootstrap's bias.

        A sample misses about a third of the clips, so it uses fewer words than the whole; only the spread is sound.
        """
        scores = self.replicates(clips, seed, n)
        return percentiles(scores + self.value() - scores.mean(), level)


Measure = Sums | Distinct


def mean_of(name: str, values: Sequence[float]) -> Sums:
    """The mean over the items."""
    values = np.asarray(values, dtype=float)
    return ratio_of(name, values, np.ones(len(values)))


def ratio_of(name: str, part: Sequence[float], whole: Sequence[float]) -> Sums:
    """The sum of `part` over the sum of `whole`, 0 where there is nothing to divide by."""
    counts = np.stack([np.asarray(part, dtype=float), np.asarray(whole, dtype=float)], axis=1)
    return Sums(name, counts, lambda sums: sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], 1))


def deviation_of(name: str, values: Sequence[float]) -> Sums:
    """The standard deviation over the items (of the population, as `numpy.std`)."""
    values = np.asarray(values, dtype=float)
    counts = np.stack([np.ones_like(values), values, values**2], axis=1)

    def combine(sums: np.ndarray) -> np.ndarray:
        mean, square = sums[:, 1] / sums[:, 0], sums[:, 2] / sums[:, 0]
        return np.sqrt(np.maximum(square - mean**2, 0))

    return Sums(name, counts, combine)
