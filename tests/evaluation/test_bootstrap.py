"""Bootstrap intervals: seeded, by clip, and as wide as theory says."""

import numpy as np
import pytest

from descant.evaluation import bootstrap_interval
from descant.evaluation.bootstrap import resample


def test_the_interval_of_independent_items_matches_the_normal_approximation() -> None:
    values = np.random.default_rng(1).random(400)
    low, high = bootstrap_interval(values, range(400), n=4000)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.003)
    assert high == pytest.approx(values.mean() + half, abs=0.003)


def test_items_of_one_clip_are_drawn_together() -> None:
    values = np.repeat(np.random.default_rng(2).random(50), 8)
    apart = bootstrap_interval(values, range(400))
    together = bootstrap_interval(values, np.repeat(range(50), 8).tolist())
    assert together.high - together.low > 2.2 * (apart.high - apart.low)


def test_the_same_seed_gives_the_same_interval() -> None:
    values, clips = [0, 1, 1, 0, 1], ["a", "a", "b", "c", "d"]
    assert bootstrap_interval(values, clips, seed=3) == bootstrap_interval(values, clips, seed=3)
    assert bootstrap_interval(values, clips, seed=3, n=50) != bootstrap_interval(values, clips, seed=4, n=50)


def test_a_large_collection_is_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("descant.evaluation.bootstrap.DRAWS_AT_ONCE", 30)
    assert resample(np.ones((10, 2)), seed=0, n=7).tolist() == [[10, 10]] * 7


def test_values_without_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="2 values and 1 groups"):
        bootstrap_interval([1, 0], ["a"])
