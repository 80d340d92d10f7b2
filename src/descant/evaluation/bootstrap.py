"""Bootstrap intervals for scores, resampled by clip because the questions of one clip hang together.

Percentile intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
"""

from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

DRAWS_AT_ONCE = 4_000_000  # weights held in memory: 32 MB


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def sum_by_group(values: np.ndarray, groups: Sequence[Hashable]) -> np.ndarray:
    """Sums the rows of `values` (items, k) that share a group → (groups, k), groups in order of appearance."""
    order = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(order), values.shape[1]))
    np.add.at(sums, [order[group] for group in groups], values)
    return sums


def draws(groups: int, seed: int, n: int) -> Iterator[np.ndarray]:
    """How often each group is drawn in each of `n` samples, in blocks (samples of the block, groups)."""
    block = max(1, DRAWS_AT_ONCE // groups)
    for start in range(0, n, block):
        yield draw_block(groups, seed, start, min(block, n - start))


@lru_cache(maxsize=1)  # the scores of one table share their draws
def draw_block(groups: int, seed: int, start: int, n: int) -> np.ndarray:
    """The samples from number `start` on."""
    rng = np.random.default_rng([seed, start])
    return rng.multinomial(groups, np.full(groups, 1 / groups), size=n)


def resample(sums: np.ndarray, seed: int, n: int) -> np.ndarray:
    """Draws `n` bootstrap samples of the rows of `sums` (groups, k) and adds each sample up → (n, k)."""
    return np.concatenate([times_drawn @ sums for times_drawn in draws(len(sums), seed, n)])


def bootstrap_interval(
    values: Sequence[float], groups: Sequence[Hashable], seed: int = 0, n: int = 1000, level: float = 0.95
) -> Interval:
    """The interval of the mean of `values`, where items with the same group (the clip) are drawn together."""
    if len(values) != len(groups) or not len(values):
        raise ValueError(f"{len(values)} values and {len(groups)} groups: give one group a value, and at least one")
    counted = np.stack([np.asarray(values, dtype=float), np.ones(len(values))], axis=1)
    sums = resample(sum_by_group(counted, groups), seed, n)
    return percentiles(sums[:, 0] / sums[:, 1], level)


def percentiles(scores: np.ndarray, level: float = 0.95) -> Interval:
    """The middle `level` of resampled scores."""
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
