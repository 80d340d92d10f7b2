"""Measures: values, intervals of sums and of sets."""

import numpy as np
import pytest

from descant.evaluation import bootstrap_interval
from descant.evaluation.measures import (
    Distinct,
    compare,
    deviation_of,
    mean_of,
    randomisation_p,
    ratio_of,
    resample,
)


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
    monkeypatch.setattr("descant.evaluation.measures.DRAWS_AT_ONCE", 30)
    assert resample(np.ones((10, 2)), seed=0, n=7).tolist() == [[10, 10]] * 7


def test_values_without_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="2 values and 1 groups"):
        bootstrap_interval([1, 0], ["a"])


CLIPS = [f"clip{number // 4}" for number in range(200)]


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=200)


def test_a_steady_gain_is_found_though_items_differ_widely() -> None:
    easy = noise(0) * 10
    (difference,) = compare([mean_of("m", easy)], [mean_of("m", easy + 0.5 + 0.2 * noise(1))], CLIPS)
    assert difference.interval.low > 0.4
    assert difference.p < 0.01


def test_equal_systems_are_not_told_apart() -> None:
    p_values = [randomisation_p(mean_of("m", noise(i)), mean_of("m", noise(i + 100)), CLIPS, n=200) for i in range(40)]
    assert 0.3 < np.mean(p_values) < 0.7
    assert np.mean(np.array(p_values) < 0.05) < 0.2


def test_a_system_equals_itself() -> None:
    (difference,) = compare([mean_of("m", noise(0))], [mean_of("m", noise(0))], CLIPS)
    assert difference.interval == (0, 0) and difference.p == 1


def test_answers_of_one_clip_are_one_observation() -> None:
    gain = np.repeat(np.random.default_rng(5).normal(0.3, 1, size=50), 4)
    apart = randomisation_p(mean_of("m", np.zeros(200)), mean_of("m", gain), range(200))
    together = randomisation_p(mean_of("m", np.zeros(200)), mean_of("m", gain), CLIPS)
    assert together > apart


def test_word_sets_have_an_interval_and_no_p() -> None:
    few, many = Distinct("v", [{i % 5} for i in range(200)]), Distinct("v", [{i} for i in range(200)])
    (difference,) = compare([few], [many], CLIPS)
    assert difference.p is None and difference.interval.low > 0
