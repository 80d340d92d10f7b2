"""Search answers queries about the embedded corpus better than its words alone, and its index stays small."""

import bench_search
import pytest

from descant.data.demo.corpus import facts


def test_search_is_better_than_plain_words_and_far_better_than_chance() -> None:
    result = bench_search.measure_quality(bench_search.describe_corpus(facts()))
    assert (result["queries"], result["denials"]) == (60, 30)
    for measure in ("average_precision", "recall_at_10"):
        scores = result[measure]
        assert scores["search - bm25"]["interval"][0] > 0
        assert scores["search"]["mean"] > 3 * scores["random"]["mean"]


def test_an_index_of_made_up_songs_is_small() -> None:
    result = bench_search.measure_speed(300, turns=2)
    assert result["bytes_a_song"] <= 6_000 and result["milliseconds"].keys() == {"words", "words and where", "like"}


def test_scores_by_hand() -> None:
    right = frozenset({"a", "c"})
    assert bench_search.average_precision(["a", "b", "c"], right) == pytest.approx((1 + 2 / 3) / 2)
    assert bench_search.recall_at_10(["b"] * 10 + ["a"], right) == 0
