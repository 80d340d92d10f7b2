"""Scores that can be resampled: each keeps what every item adds, so intervals and tests need no second scoring.

Intervals are percentiles of a bootstrap over clips; two systems are compared by a paired bootstrap and, where scores
are sums over items, by approximate randomisation.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

DRAWS_AT_ONCE = 4_000_000  # weights held in memory: 32 MB


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def sum_by_group(values: np.ndarray, groups: Sequence[Hashable]) -> np.ndarray:
    """Sum the rows of `values` (items, k) that share a group to (groups, k), groups in order of appearance."""
    order = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(order), values.shape[1]))
    np.add.at(sums, [order[group] for group in groups], values)
    return sums


def draws(groups: int, seed: int, n: int) -> Iterator[np.ndarray]:
    """Count how often each group is drawn in each of `n` samples, in blocks (samples of the block, groups)."""
    block = max(1, DRAWS_AT_ONCE // groups)
    for start in range(0, n, block):
        yield draw_block(groups, seed, start, min(block, n - start))


@lru_cache(maxsize=1)  # the scores of one table share their draws
def draw_block(groups: int, seed: int, start: int, n: int) -> np.ndarray:
    """Draw `n` samples, from number `start` on."""
    rng = np.random.default_rng([seed, start])
    return rng.multinomial(groups, np.full(groups, 1 / groups), size=n)


def resample(sums: np.ndarray, seed: int, n: int) -> np.ndarray:
    """Draw `n` bootstrap samples of the rows of `sums` (groups, k) and add each sample up to (n, k)."""
    return np.concatenate([times_drawn @ sums for times_drawn in draws(len(sums), seed, n)])


def bootstrap_interval(
    values: Sequence[float], groups: Sequence[Hashable], seed: int = 0, n: int = 1000
) -> Interval:
    """Return the interval of the mean of `values`, where items with the same group (the clip) are drawn together."""
    if len(values) != len(groups) or not len(values):
        raise ValueError(f"{len(values)} values and {len(groups)} groups: give one group a value, and at least one")
    counted = np.stack([np.asarray(values, dtype=float), np.ones(len(values))], axis=1)
    sums = resample(sum_by_group(counted, groups), seed, n)
    return percentiles(sums[:, 0] / sums[:, 1])


def percentiles(scores: np.ndarray) -> Interval:
    """Return the middle 95 % of resampled scores."""
    low, high = np.quantile(scores, [(1 - 0.95) / 2, (1 + 0.95) / 2])
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class Sums:
    """A score computed from sums over the items: a mean, a ratio, corpus BLEU."""

    name: str
    counts: np.ndarray  # (items, k)
    combine: Callable[[np.ndarray], np.ndarray]  # sums (n, k) → scores (n,)

    def value(self) -> float:
        """Return the score of all items."""
        return float(self.combine(self.counts.sum(axis=0, keepdims=True))[0])

    def replicates(self, clips: Sequence[Hashable], seed: int = 0, n: int = 1000) -> np.ndarray:
        """Return the scores (n,) of `n` samples of the clips, drawn with replacement."""
        return self.combine(resample(sum_by_group(self.counts, clips), seed, n))

    def interval(self, clips: Sequence[Hashable], seed: int = 0, n: int = 1000) -> Interval:
        """Return the percentile interval."""
        return percentiles(self.replicates(clips, seed, n))


@dataclass(frozen=True)
class Distinct:
    """A score computed from the set of different words (or captions) that the items use together."""

    name: str
    words: list[set[str]]  # a set for each item
    known: frozenset[str] | None = None  # given: the share of the words that are not in it; else: their number

    def value(self) -> float:
        """Return the score of all items."""
        used = set().union(*self.words)
        return float(len(used)) if self.known is None else len(used - self.known) / max(len(used), 1)

    def replicates(self, clips: Sequence[Hashable], seed: int = 0, n: int = 1000) -> np.ndarray:
        """Return the scores (n,) of `n` samples of the clips, drawn with replacement."""
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

    def interval(self, clips: Sequence[Hashable], seed: int = 0, n: int = 1000) -> Interval:
        """Return the percentile interval less the bootstrap's bias.

        A sample misses about a third of the clips, so it uses fewer words than the whole; only the spread is sound.
        """
        scores = self.replicates(clips, seed, n)
        return percentiles(scores + self.value() - scores.mean())


Measure = Sums | Distinct
Values = Sequence[float] | np.ndarray  # one an item


def mean_of(name: str, values: Values) -> Sums:
    """Measure the mean over the items."""
    return ratio_of(name, values, np.ones(len(values)))


def ratio_of(name: str, part: Values, whole: Values) -> Sums:
    """Measure the sum of `part` over the sum of `whole`, 0 where there is nothing to divide by."""
    counts = np.stack([np.asarray(part, dtype=float), np.asarray(whole, dtype=float)], axis=1)
    return Sums(name, counts, lambda sums: sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], 1))


def deviation_of(name: str, values: Values) -> Sums:
    """Measure the standard deviation over the items (of the population, as `numpy.std`)."""
    numbers = np.asarray(values, dtype=float)
    counts = np.stack([np.ones_like(numbers), numbers, numbers**2], axis=1)

    def combine(sums: np.ndarray) -> np.ndarray:
        mean, square = sums[:, 1] / sums[:, 0], sums[:, 2] / sums[:, 0]
        return np.sqrt(np.maximum(square - mean**2, 0))

    return Sums(name, counts, combine)


@dataclass(frozen=True)
class Difference:
    """A score of two systems, the 95 % interval of its gap and, where it was tested, the p-value."""

    name: str
    first: float
    second: float
    interval: Interval  # of the gap
    p: float | None = None

    @property
    def gap(self) -> float:
        """How far the second system's score is above the first's."""
        return self.second - self.first


def compare(
    first: Sequence[Measure], second: Sequence[Measure], clips: Sequence[Hashable], seed: int = 0, n: int = 1000
) -> list[Difference]:
    """Compare the same scores of two systems; item i of both belongs to `clips[i]`."""
    differences = []
    for one, other in zip(first, second, strict=True):
        gaps = other.replicates(clips, seed, n) - one.replicates(clips, seed, n)
        if isinstance(one, Distinct):  # its replicates are biased, see Distinct.interval
            gaps = gaps - gaps.mean() + other.value() - one.value()
        p = None  # word sets cannot be split by clip
        if isinstance(one, Sums) and isinstance(other, Sums):
            p = randomisation_p(one, other, clips, seed, n)
        differences.append(Difference(one.name, one.value(), other.value(), percentiles(gaps), p))
    return differences


def randomisation_p(first: Sums, second: Sums, clips: Sequence[Hashable], seed: int = 0, n: int = 1000) -> float:
    """Return how likely a gap as large is where the systems are interchangeable (two-sided)."""
    one, other = sum_by_group(first.counts, clips), sum_by_group(second.counts, clips)
    observed, rng, as_large = abs(second.value() - first.value()), np.random.default_rng(seed), 1
    block = max(1, DRAWS_AT_ONCE // len(one))
    for start in range(0, n, block):
        moved = rng.integers(2, size=(min(block, n - start), len(one))) @ (other - one)
        gaps = second.combine(other.sum(axis=0) - moved) - first.combine(one.sum(axis=0) + moved)
        as_large += int((np.abs(gaps) >= observed - 1e-12).sum())
    return as_large / (n + 1)


def table_lines(header: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Give the lines of a Markdown table."""
    for row in (header, ["---"] * len(header), *rows):
        yield "| " + " | ".join(value.replace("|", "\\|") for value in row) + " |"
