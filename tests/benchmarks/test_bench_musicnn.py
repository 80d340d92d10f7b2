"""The musicnn benchmark runs, and both ways hear the same."""

from bench_musicnn import format_result, measure
from plain_musicnn import small_model


def test_both_ways_hear_the_same() -> None:
    result = measure(small_model(), patches=2, turns=3)
    assert result["difference"] < 1e-4
    assert [len(seconds) for seconds in result["seconds"].values()] == [3, 3]
    assert "× real time" in format_result(result)
