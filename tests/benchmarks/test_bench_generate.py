"""The answering benchmark runs, its loads have the published lengths, and all systems give the same tokens."""

import numpy as np
import pytest
import torch
from bench_generate import measure, read_waveforms, report, tiny_model
from generate_systems import closest_race, make_loads
from train_generate_model import LONG, SHORT, Writer, extract_mels, train


def test_all_systems_give_the_same_tokens(capsys: pytest.CaptureFixture) -> None:
    torch.set_num_threads(1)
    result = measure(tiny_model(), read_waveforms(2), turns=1, sample=1, baseline=4, max_length=6)
    for load in ("short", "long", "mixed"):
        assert result[load]["differing_from_one_by_one_5"] == result[load]["differing_from_transformers"] == []
        assert result[load]["questions"] == 10
        assert result[load]["work_gflop"] > 0
        assert 0.1 < result[load]["product_share"] < 1
    report(result)
    assert "one short question alone" in capsys.readouterr().out


def test_the_closest_race_is_told_in_units_in_the_last_place() -> None:
    model, waveforms = tiny_model(), read_waveforms(1)
    load = make_loads(waveforms, extract_mels(waveforms), 1, model.config.vocab_size)[0]
    gap, units = closest_race(model, load.batch([0]), {"max_length": 6})
    assert 0 <= gap < 1 and units == pytest.approx(round(units), abs=1e-3)


def test_lengths_are_those_of_the_published_answers() -> None:
    assert np.mean(SHORT) == pytest.approx(16, rel=0.1)
    assert np.mean(LONG) == pytest.approx(99, rel=0.1)


def test_a_long_answer_has_no_end_before_it_is_cut() -> None:
    writer = Writer(np.random.default_rng(0), vocab_size=50265)
    assert 2 not in writer.answer(128)
    answer = writer.answer(12)
    assert (answer[0], answer[-1], len(answer)) == (0, 2, 12)
    assert max(answer) < 50265


def test_training_teaches_the_model_for_the_time_given() -> None:
    model = tiny_model()
    before = model.lm_head.weight.clone()
    assert not train(model, seconds=0.01, lr=1e-3).training
    assert not torch.equal(model.lm_head.weight, before)
