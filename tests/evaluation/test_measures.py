"""Measures: values, intervals of sums and of sets."""

import numpy as np
import pytest

from descant.evaluation.measures import Distinct, deviation_of, mean_of, ratio_of


def test_a_mean_resamples_by_clip() -> None:
    values = np.repeat(np.random.default_rng(0).random(60), 5)
    measure = mean_of("score", values)
    assert measure.value() == pytest.approx(values.mean())
    apart, together = measure.interval(range(300)), measure.interval([i // 5 for i in range(300)])
    assert together.high - together.low > 1.8 * (apart.high - apart.low)


def test_a_deviation_is_numpys() -> None:
    assert deviation_of("length_std", [1, 4, 4, 9]).value() == pytest.approx(np.std([1, 4, 4, 9]))


def test_a_ratio_of_nothing_is_zero() -> None:
    assert ratio_of("recall", [0, 0], [0, 0]).value() == 0


def test_the_interval_of_a_vocabulary_holds_its_size() -> None:
    rng = np.random.default_rng(0)
    words = [{int(word) for word in rng.zipf(1.5, size=9)} for _ in range(200)]
    measure = Distinct("vocab_size", words)
    interval = measure.interval(range(200))
    assert interval.low < measure.value() < interval.high
    assert measure.replicates(range(200)).mean() < measure.value()


def test_novelty_is_a_share_of_the_different_words() -> None:
    measure = Distinct("vocab_novelty", [{"a", "b"}, {"b", "c"}], frozenset("a"))
    assert measure.value() == pytest.approx(2 / 3)
    assert measure.replicates(["x", "y"], n=20).max() <= 1


def test_no_words_at_all_score_zero() -> None:
    assert Distinct("vocab_size", [set()]).interval(["x"]) == (0, 0)
