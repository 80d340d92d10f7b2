"""Paired comparison of two systems."""

import numpy as np
import pytest

from descant.evaluation.comparison import compare, pair_items, randomisation_p
from descant.evaluation.items import Item
from descant.evaluation.measures import Distinct, mean_of

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


def test_items_are_paired_by_clip_second_and_question() -> None:
    first = [Item("a", ("r",), "x", 0.0, "q"), Item("b", ("r",), "x", 0.0, None), Item("c", ("r",), "y", 0.0, "q")]
    second = [Item("d", ("r",), "x", 0.0, None), Item("e", ("r",), "x", 0.0, "q"), Item("f", ("r",), "z", 0.0, "q")]
    pairs, single = pair_items(first, second)
    assert [(one.prediction, other.prediction) for one, other in pairs] == [("a", "e"), ("b", "d")]
    assert [item.clip for item in single] == ["y", "z"]


def test_other_references_are_refused() -> None:
    with pytest.raises(ValueError, match="x: the two files give different references"):
        pair_items([Item("a", ("r",), "x")], [Item("a", ("s",), "x")])
