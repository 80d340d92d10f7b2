"""Calibration of probabilities."""

import numpy as np
import pytest

from descant.evaluation.labels.calibration import expected_calibration_error, reliability_table


def test_error_is_the_mean_distance_weighed_by_the_predictions():
    probabilities, outcomes = np.array([0.9, 0.9, 0.9, 0.1]), np.array([True, True, False, False])
    # Three say 0.9 and 2/3 come true; one says 0.1 and does not.
    assert expected_calibration_error(probabilities, outcomes) == pytest.approx(0.75 * (0.9 - 2 / 3) + 0.25 * 0.1)


def test_bins_hold_each_prediction_once_and_both_ends():
    table = reliability_table(np.linspace(0, 1, 101).reshape(1, -1), np.ones((1, 101)))
    assert sum(row.count for row in table) == 101
    assert (table[0].low, table[-1].high) == (0.0, 1.0)
    assert all(row.low <= row.probability <= row.high and row.share_true == 1 for row in table)


def test_true_probabilities_are_calibrated():
    random = np.random.default_rng(0)
    probabilities = random.random(20000)
    assert expected_calibration_error(probabilities, random.random(20000) < probabilities) < 0.02


@pytest.mark.parametrize(("given", "outcomes"), [([0.5], [1, 0]), ([], []), ([1.2], [1]), ([float("nan")], [1])])
def test_what_is_no_probability_is_refused(given, outcomes):
    with pytest.raises(ValueError, match="probabilities"):
        reliability_table(np.array(given), np.array(outcomes))
