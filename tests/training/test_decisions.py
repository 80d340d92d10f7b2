"""What is fitted for typed answers: types out of rows, temperatures, thresholds, and what music sounds like."""

import numpy as np
import pytest
from tiny import build_tiny_model

from descant.data.demo import load_demo
from descant.evaluation.calibration import ScoredType, decide_rows, log_probabilities
from descant.training.decisions import (
    collect_types,
    find_threshold,
    fit_decisions,
    fit_shifts,
    fit_temperature,
    shift_scores,
)


def test_closed_types_of_one_term_are_collected_with_all_their_sentences():
    types = collect_types(load_demo()["train"])
    assert set(types) == {"genre", "subgenre", "tempo_class", "lead_instrument", "drums", "bass", "mood", "metre"}
    assert len(types["genre"].answers) == 12
    assert "No, there are no drums." in types["drums"].answers["no drums"]
    assert "This is {option} music." in types["genre"].carriers
    assert "percussion" in types["drums"].synonyms["drums"]


def test_a_model_that_knows_nothing_is_fitted_to_be_unsure():
    model, processor = build_tiny_model()
    rows = load_demo()
    few = {row.clip_id for row in rows["validation"][:40]}
    zeros = type("Zeros", (), {"read": lambda self, clip, out=None: np.full((128, 1001), -40, np.float32)})()
    validation = [row for row in rows["validation"] if row.clip_id in few]
    config = fit_decisions(model, processor, rows["train"], validation, zeros)
    genre = config.types()["genre"]
    assert genre.decisions == len(few) and set(genre.shifts) == set(genre.answers)
    found = decide_rows(model, processor, {"genre": genre}, config.wordings, validation, zeros)["genre"]
    probabilities = np.exp(log_probabilities(found.scores, genre.temperature))
    assert probabilities.max() < min(0.5, genre.threshold)  # so nothing is sure


def test_shifts_bring_the_means_of_options_to_their_frequencies():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(500, 3)) + np.array([2.0, 0.0, 0.0])  # the first one is said too easily
    right = generator.choice(3, size=500, p=[0.2, 0.3, 0.5])
    scored = ScoredType(scores, right, [str(number) for number in range(500)])
    shifts = fit_shifts(scored, ["a", "b", "c"])
    assert shifts["a"] < shifts["b"] < shifts["c"]
    shifted = shift_scores(scored, list(shifts.values()))
    means = [np.exp(log_probabilities(one.scores, 1.0)).mean(axis=0) for one in (scored, shifted)]
    before, after = (np.abs(mean - [0.2, 0.3, 0.5]).sum() for mean in means)
    assert after < 0.5 * before


def test_without_closed_questions_nothing_is_fitted():
    rows = [row for row in load_demo()["train"] if row.question is None]
    assert fit_decisions(None, None, rows, [], None) is None


def test_the_temperature_makes_probabilities_as_large_as_the_share_that_is_right():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(4000, 3))
    weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    right = np.array([generator.choice(3, p=row) for row in weights])
    assert fit_temperature(3 * scores, right) == pytest.approx(3.0, rel=0.1)


def test_the_threshold_is_the_least_probability_of_the_wanted_precision():
    probabilities = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    assert find_threshold(probabilities, np.array([1, 1, 0, 1, 0], bool), 0.75) == 0.6
    assert find_threshold(probabilities, np.zeros(5, bool), 0.75) == 1.0
