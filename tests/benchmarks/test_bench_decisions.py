"""The benchmark of typed answers: its curve, its sounds, and a run on a tiny model."""

import numpy as np
import pytest
from bench_decisions import area_under_roc, make_sounds, measure_time
from tiny import save_tiny_decider

from descant.answering.model_folder import load_model


def test_the_area_is_how_often_a_positive_lies_above_a_negative() -> None:
    assert area_under_roc(np.array([3.0, 1.0]), np.array([0.0, 2.0])) == 0.75
    assert area_under_roc(np.array([1.0]), np.array([1.0])) == 0.5


def test_the_sounds_are_not_silent_and_do_not_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench_decisions.SOUNDS", 3)
    monkeypatch.setattr("bench_decisions.shutil.which", lambda name: None)
    sounds = make_sounds(np.random.default_rng(0))
    assert set(sounds) == {"white noise", "pink noise", "tones"}
    for waves in sounds.values():
        assert all(1e-3 < np.sqrt(np.mean(wave**2)) <= 1 and len(wave) == 160_000 for wave in waves)


def test_time_is_measured_in_turns(tmp_path) -> None:
    model, processor = load_model(save_tiny_decider(tmp_path))
    rate = processor.feature_extractor.sampling_rate
    wave = np.random.default_rng(0).normal(size=rate).astype(np.float32)
    features = processor(audio=[wave], sampling_rate=rate, return_tensors="pt")["input_features"][0]
    found = measure_time(model, processor, model.decision_config, features, runs=1)
    assert {"generated", "1 wordings", "3 wordings", "3 wordings / generated"} <= set(found)
