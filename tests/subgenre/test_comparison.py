"""The table beside single modalities, the grid of missing modalities, and calibration."""

import numpy as np
import pytest

from descant.subgenre.comparison import (
    FUSION,
    Comparison,
    differences_to_others,
    mean_scores,
    render_calibration,
    render_comparison,
    render_missing,
)
from descant.subgenre.label_scores import GoldLabels, LabelPredictions, score_intervals
from descant.subgenre.labels import LabelTree

TREE = LabelTree({"jazz": ("swing",), "pop": ("disco",)})


def tell(genres: list[int]) -> LabelPredictions:
    chosen = np.eye(2, dtype=bool)[genres]
    return LabelPredictions(0.1 + 0.8 * chosen, 0.1 + 0.8 * chosen, chosen)


@pytest.fixture
def found() -> Comparison:
    truth = [0, 1, 0, 1, 0, 1]
    gold = GoldLabels(TREE, np.array(truth), np.eye(2, dtype=bool)[truth], tuple("aabbcc"))
    right, wrong = tell(truth), tell([0, 0, 0, 0, 0, 0])
    systems = {FUSION: [right, right], "lyrics": [wrong, wrong], "audio": [right, wrong]}
    measured = {name: score_intervals(gold, runs) for name, runs in systems.items()}
    visible = {("lyrics", "audio"): [right, right], ("audio",): [wrong, wrong]}
    return Comparison("test", gold, systems, measured, visible)


def test_fusion_is_set_beside_every_other_system(found):
    gaps = differences_to_others(found)
    assert set(gaps) == {f"fusion − {one} ({level})" for one in ("lyrics", "audio") for level in ("genre", "subgenre")}
    assert gaps["fusion − lyrics (genre)"].gap == pytest.approx(1 - 1 / 3)
    assert gaps["fusion − lyrics (genre)"].interval.low > 0


def test_the_grid_compares_with_the_best_of_what_is_seen(found):
    rows = render_missing(found).splitlines()[2:]
    both, audio = ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)
    assert both[:2] == ["lyrics + audio", "1.000"] and both[4].startswith("+33.3 [")
    assert audio[0] == "audio" and audio[4].startswith("-33.3 [")


def test_scores_are_means_over_seeds(found):
    assert mean_scores(found.gold, found.systems["audio"])["genre_accuracy"] == pytest.approx(0.75)


def test_calibration_says_what_came_true(found):
    text = render_calibration(found)
    assert "0.100 of the likeliest genre" in text and "| 0.8–0.9 | 12 | 0.900 | 1.000 |" in text


def test_the_report_holds_all_parts(found):
    text = render_comparison(found)
    assert text.startswith("# Subgenres of 6 test tracks by 3 artists\n") and "mean of 2 seeds" in text
    assert text.count("\n## ") == 3
