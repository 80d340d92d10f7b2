"""The answering benchmark runs, its loads have the published lengths, and all systems give the same tokens."""

import numpy as np
import pytest
import torch
from bench_generate import Extent, measure, read_waveforms, tiny_model
from generate_report import report, report_differences
from generate_systems import Load, Race, closest_race, find_differences, first_difference, make_loads, watch_races
from train_generate_model import LONG, SHORT, Writer, embed_clips, extract_mels, listen, make_batch, train, vary


def test_all_systems_give_the_same_tokens(capsys: pytest.CaptureFixture) -> None:
    torch.set_num_threads(1)
    result = measure(tiny_model(), read_waveforms(2), Extent(1, 1, 1, 4), max_length=6)
    for load in ("short", "long", "mixed"):
        assert result[load]["differing_from_one_by_one_5"] == result[load]["differing_from_transformers"] == []
        assert result[load]["questions"] == 10
        assert result[load]["work_gflop"] > 0
        assert 0 < result[load]["product_share"] < 1
    assert report(result) == 0
    printed = capsys.readouterr()
    assert "one short question alone" in printed.out
    assert "tokens differ from transformers: 0 of 12 questions (0.00 %)" in printed.out
    assert "mixed, turn 1 of 1: descant" in printed.err
    for tier in ("fp32", "int8", "trimmed"):
        assert f"tier {tier}: " in printed.out and "% of the answers" in printed.out


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("size", [8, 64])
def test_turns_ask_different_questions_of_the_same_mix_of_lengths(place: int, size: int) -> None:
    load = full_load(place)
    shares = load.shares(size, 3)
    assert len({row for share in shares for row in share}) == 3 * size
    lengths = [[load.lengths[row] for row in share] for share in shares]
    assert len({share.count(128) for share in lengths}) == 1
    assert [np.mean(share) for share in lengths] == pytest.approx([np.mean(load.lengths)] * 3, rel=0.08)


def test_a_small_load_gives_every_turn_all_its_questions() -> None:
    assert full_load(0, questions=1).shares(64, 3) == [list(range(40))] * 3
    shares = full_load(0, questions=1).shares(16, 3)
    assert [len(set(share)) for share in shares] == [16] * 3


def full_load(place: int, questions: int = 5) -> Load:
    return make_loads([np.zeros(0)] * 40, torch.zeros(40, 1, 1), questions, 50265)[place]


def test_races_are_told_in_units_in_the_last_place_and_by_the_token_they_choose() -> None:
    model, waveforms = tiny_model(), read_waveforms(1)
    load = make_loads(waveforms, extract_mels(waveforms), 1, model.config.vocab_size)[0]
    races = watch_races(model, load.batch([0]), {"max_length": 6})
    assert [race.place for race in races] == list(range(2, 2 + len(races)))  # after the start token and <s>
    assert all(0 <= race.gap < 1 and race.units == pytest.approx(round(race.units), abs=1e-3) for race in races)


def test_a_race_after_the_first_difference_excuses_nothing() -> None:
    races = [Race(0.5, 5, 2), Race(0.1, 1, 3), Race(1e-7, 1, 4)]
    assert closest_race(races, last=3) == races[1]
    assert closest_race(races) == races[2]
    assert first_difference([2, 0, 7, 8, 2], [2, 0, 7, 9, 2]) == 3
    assert first_difference([2, 0, 7], [2, 0, 7, 9]) == 3


def test_differences_are_listed_and_summed_up(capsys: pytest.CaptureFixture) -> None:
    model, waveforms = tiny_model(), read_waveforms(1)
    load = make_loads(waveforms, extract_mels(waveforms), 2, model.config.vocab_size)[0]
    answer = {0: [2, 0, 7, 8, 2], 1: [2, 0, 7, 2]}
    cases = find_differences(model, load, answer, answer | {0: [2, 0, 7, 9, 2]}, {"max_length": 6})
    assert [(case["question"], case["first_difference"]) for case in cases] == [(0, 3)]
    assert cases[0]["closest_race"].place <= 3
    close = cases[0] | {"closest_race": Race(1e-5, 9, 2)}
    load_figures = {"compared_with_transformers": 100, "differing_from_transformers": [close]}
    none = load_figures | {"differing_from_transformers": []}
    assert report_differences("transformers", [load_figures, none])
    assert "1 of 200 questions (0.50 %), 1 of them after a race" in capsys.readouterr().out
    assert not report_differences("transformers", [load_figures, load_figures])  # more than the tolerated share
    unexplained = cases[0] | {"closest_race": Race(2e-5, 9, 2)}
    assert not report_differences("transformers", [load_figures | {"differing_from_transformers": [unexplained]}])


def test_lengths_are_those_of_the_published_answers() -> None:
    assert np.mean(SHORT) == pytest.approx(16, rel=0.1)
    assert np.mean(LONG) == pytest.approx(99, rel=0.1)


def test_a_long_answer_has_no_end_before_it_is_cut() -> None:
    writer = Writer(np.random.default_rng(0), vocab_size=50265)
    long, short = (writer.answer(length) for length in (128, 12))
    assert 2 not in long
    assert (short[0], short[-1], len(short)) == (0, 2, 12)
    assert {*short, *long} <= {*writer.words()}
    assert max(writer.words()) < 50265


def test_no_place_of_an_answer_shares_its_words_with_another() -> None:
    writer = Writer(np.random.default_rng(0), vocab_size=50265)
    assert len({*writer.words()}) == len(writer.words())
    for length in (36, 128):
        words = [word for word in writer.answer(length) if word not in (0, 2)]
        assert len(set(words)) == len(words)


def test_questions_of_one_length_are_heard_in_different_ways_afterwards() -> None:
    model = tiny_model()
    writer = Writer(np.random.default_rng(0), model.config.vocab_size)
    batch = make_batch(writer, [128] * 6, embed_clips(model, 6)) | {"labels": None}
    heard = listen(model, batch, Writer(np.random.default_rng(0), model.config.vocab_size))
    out = model.model.decoder.layers[-1].encoder_attn.out_proj
    before = out(heard).detach()
    vary(model, writer)
    after = out(heard).detach()
    assert after.std(dim=0).mean() > 1.5 * before.std(dim=0).mean()
    assert not torch.allclose(after[0], after[1], atol=0.1)


def test_training_teaches_the_model_for_the_time_given() -> None:
    model = tiny_model()
    before = model.lm_head.weight.clone()
    assert not train(model, seconds=0.01, lr=1e-3).training
    assert not torch.equal(model.lm_head.weight, before)
