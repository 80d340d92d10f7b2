"""The MertLM benchmark runs, and both ways give the same tokens."""

from bench_mert_lm import format_result, measure, tiny_model


def test_both_ways_give_the_same_tokens() -> None:
    result = measure(*tiny_model(), clips=2, sample=4, turns=2, max_new_tokens=6)
    assert result["differing"] == [] and len(result["ratios"]) == 2
    assert "0 sampled answers differ" in format_result(result)
