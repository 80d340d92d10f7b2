"""Scores of probabilities: calibration error, Brier score, risk and coverage, intervals by clip."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from tiny import TEXTS, build_tiny_model

from descant.data.annotations import Row
from descant.data.features import FeatureError
from descant.evaluation.calibration import (
    Confidences,
    ScoredType,
    accuracy_at,
    expected_calibration_error,
    join,
    measure_decisions,
    read_confidences,
    risk_area,
    risk_coverage,
    score_confidences,
)
from descant.models.lp_music_caps.decision_music import MusicDecisionConfig, QuestionType


def test_the_error_is_the_mean_distance_over_bins_of_equal_mass() -> None:
    probabilities, outcomes = np.array([0.9, 0.7, 0.8, 0.1]), np.array([True, True, False, False])
    # 0.1 and 0.7: mean 0.4, half true; 0.8 and 0.9: mean 0.85, half true.
    assert expected_calibration_error(probabilities, outcomes, bins=2) == pytest.approx((0.1 + 0.35) / 2)


def test_true_probabilities_are_calibrated_and_overconfident_ones_are_not() -> None:
    random = np.random.default_rng(0)
    probabilities = random.random(20_000)
    outcomes = random.random(20_000) < probabilities
    assert expected_calibration_error(probabilities, outcomes) < 0.02
    assert expected_calibration_error(probabilities**0.25, outcomes) > 0.2


def test_risk_falls_with_coverage_where_probabilities_tell_right_from_wrong() -> None:
    probabilities, hits = np.array([0.6, 0.9, 0.7, 0.8]), np.array([False, True, False, True])
    coverage, risk = risk_coverage(probabilities, hits)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0] and risk.tolist() == pytest.approx([0, 0, 1 / 3, 0.5])
    assert risk_area(probabilities, hits) == pytest.approx((1 / 3 + 0.5) / 4)
    assert accuracy_at(probabilities, hits, 0.5) == 1.0 and accuracy_at(probabilities, hits, 1.0) == 0.5


def test_the_temperature_and_the_threshold_are_applied() -> None:
    scored = ScoredType(np.log([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1]), ["a", "b"])
    found = read_confidences(scored, temperature=2.0, threshold=0.6)
    assert found.probabilities.tolist() == pytest.approx([2 / 3, 2 / 3]) and found.sure.all()
    assert found.hits.tolist() == [True, False]
    assert found.squared.tolist() == pytest.approx([2 / 9, 8 / 9])
    assert not read_confidences(scored, 2.0, 0.7).sure.any()


def test_intervals_draw_whole_clips() -> None:
    random = np.random.default_rng(0)
    hits = np.repeat(random.random(40) < 0.5, 10)  # all ten decisions of a clip are right, or none is
    found = Confidences(np.full(400, 0.5), hits, np.full(400, 0.5), np.zeros(400, bool), [])
    by_clip = score_confidences(replace(found, clips=[str(n // 10) for n in range(400)]), n=300)
    apart = score_confidences(replace(found, clips=[str(n) for n in range(400)]), n=300)
    width = {name: np.ptp(one["intervals"]["accuracy"]) for name, one in (("clip", by_clip), ("apart", apart))}
    assert width["clip"] > 2 * width["apart"]
    assert by_clip["n"] == 400 and by_clip["precision_of_sure"] is None


def test_the_decisions_of_types_are_joined() -> None:
    one = Confidences(np.array([0.5]), np.array([True]), np.array([0.5]), np.array([False]), ["a"])
    both = join([one, one])
    assert len(both.hits) == 2 and both.clips == ["a", "a"]


def test_a_model_is_measured_on_the_closed_questions_of_a_split(caplog: pytest.LogCaptureFixture) -> None:
    model, processor = build_tiny_model()
    genre = QuestionType(questions=[TEXTS[0]], answers={"jazz": ["jazz"], "rock": ["rock"]}, threshold=0.0)
    config = MusicDecisionConfig(question_types={"genre": asdict(genre)})
    rows = [
        Row(f"clip-{number}", TEXTS[0], f"It is {term}.", "genre", "test", 0.0, 10.0, None)
        for number, term in enumerate(["jazz", "rock", "jazz"])
    ]  # fmt: skip
    features = type("Zeros", (), {"read": lambda self, clip, out=None: np.full((128, 1001), -40, np.float32)})()
    found = measure_decisions(model, processor, config, rows, features)
    assert found["all"]["n"] == found["by_type"]["genre"]["n"] == 3 and found["all"]["sure"] == 1.0
    assert found["all"]["accuracy"] in (pytest.approx(1 / 3, abs=1e-3), pytest.approx(2 / 3, abs=1e-3))
    assert measure_decisions(model, processor, config, [], features) == {}

    def read(_: object, clip: str, out: np.ndarray | None = None) -> np.ndarray:
        if clip == "clip-1":
            raise FeatureError("store: clip-1: the shard is cut off")
        return features.read(clip)

    damaged = type("Damaged", (), {"read": read})()
    assert measure_decisions(model, processor, config, rows, damaged)["all"]["n"] == 2
    assert "clip-1: no decisions about it: store: clip-1: the shard is cut off" in caplog.text
    assert measure_decisions(model, processor, config, rows[1:2], damaged) == {}
