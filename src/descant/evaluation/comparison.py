"""Two systems on the same questions: differences with intervals, and a paired test, both by clip.

The interval comes from a paired bootstrap (Koehn 2004: both systems in the same drawn clips), the p-value from
approximate randomisation (Noreen 1989; Riezler and Maxwell 2005): each clip's answers are swapped between the systems
at random, and p is how often that yields a difference as large.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from descant.evaluation.bootstrap import DRAWS_AT_ONCE, Interval, percentiles, sum_by_group
from descant.evaluation.items import Item
from descant.evaluation.measures import Distinct, Measure, Sums


@dataclass(frozen=True)
class Difference:
    """A score of two systems; `p` is None for scores of word sets, which cannot be split by clip."""

    name: str
    first: float
    second: float
    interval: Interval  # of second - first
    p: float | None


def pair_items(first: Iterable[Item], second: Iterable[Item]) -> tuple[list[tuple[Item, Item]], list[Item]]:
    """The items about the same clip, second and question, and those that one side lacks.

    ValueError: a pair's references differ, so the systems were not asked the same.
    """
    waiting: defaultdict[Hashable, list[Item]] = defaultdict(list)
    for item in second:
        waiting[item.clip, item.start_s, item.question].append(item)
    pairs, single = [], []
    for item in first:
        matches = waiting[item.clip, item.start_s, item.question]
        if not matches:
            single.append(item)
            continue
        other = matches.pop(0)
        if item.references != other.references:
            raise ValueError(f"{item.clip}: the two files give different references, so they cannot be compared")
        pairs.append((item, other))
    return pairs, single + [item for items in waiting.values() for item in items]


def compare(
    first: Sequence[Measure], second: Sequence[Measure], clips: Sequence[Hashable], seed: int = 0, n: int = 1000
) -> list[Difference]:
    """Compares the same scores of two systems; item i of both belongs to `clips[i]`."""
    differences = []
    for one, other in zip(first, second, strict=True):
        gaps = other.replicates(clips, seed, n) - one.replicates(clips, seed, n)
        if isinstance(one, Distinct):  # its replicates are biased, see Distinct.interval
            gaps = gaps - gaps.mean() + other.value() - one.value()
        p = None if isinstance(one, Distinct) else randomisation_p(one, other, clips, seed, n)
        differences.append(Difference(one.name, one.value(), other.value(), percentiles(gaps), p))
    return differences


def randomisation_p(first: Sums, second: Sums, clips: Sequence[Hashable], seed: int = 0, n: int = 1000) -> float:
    """How likely a difference as large is where the systems are interchangeable (two-sided)."""
    one, other = sum_by_group(first.counts, clips), sum_by_group(second.counts, clips)
    observed, rng, as_large = abs(second.value() - first.value()), np.random.default_rng(seed), 1
    block = max(1, DRAWS_AT_ONCE // len(one))
    for start in range(0, n, block):
        moved = rng.integers(2, size=(min(block, n - start), len(one))) @ (other - one)
        gaps = second.combine(other.sum(axis=0) - moved) - first.combine(one.sum(axis=0) + moved)
        as_large += int((np.abs(gaps) >= observed - 1e-12).sum())
    return as_large / (n + 1)
