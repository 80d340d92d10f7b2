"""The order of rows over a run: stages, epochs, grouping, resumability."""

from collections import Counter

import numpy as np
import pytest

from descant.data.annotations import Row
from descant.training.recipe import Stage
from descant.training.settings import TrainingSettings
from descant.training.training_data import (
    LIKE_LENGTH,
    CurriculumSampler,
    StagePlan,
    hold_sounds_out,
    plan_stages,
    plan_steps,
    rows_per_step,
    share_epochs,
)

STAGES = (Stage("short", 25), Stage("long", 75))


def make_sampler(rows_per_clip: int = 1, seed: int = 42, batch_size: int = 4) -> CurriculumSampler:
    rows = {"short": np.arange(0, 30), "long": np.arange(30, 70)}
    plans = plan_stages(STAGES, rows, num_epochs=4)
    clips = np.concatenate([np.repeat(np.arange(10), 3), np.repeat(np.arange(10), 4)])
    lengths = np.random.default_rng(0).integers(3, 60, 70)
    return CurriculumSampler(plans, clips, lengths, batch_size=batch_size, rows_per_clip=rows_per_clip, seed=seed)


def test_epochs_are_shared_out_in_the_recipe_s_proportion():
    assert [(stage.name, stage.epochs) for stage in make_sampler().stages] == [("short", 1), ("long", 3)]


@pytest.mark.parametrize(("epochs", "shares"), [(2, [1, 1]), (3, [1, 2]), (4, [1, 3]), (100, [25, 75])])
def test_every_stage_has_an_epoch_however_few_there_are(epochs, shares):
    assert share_epochs(STAGES, epochs) == shares
    assert share_epochs(STAGES[::-1], epochs) == shares[::-1]


@pytest.mark.parametrize(
    ("stages", "epochs", "least"),
    [(STAGES, 1, "short, then long: give at least 2"), (STAGES[:1], 0.4, "short: give at least 1")],
)
def test_fewer_epochs_than_stages_are_refused_with_the_number_that_works(stages, epochs, least):
    with pytest.raises(ValueError, match=f"--num_train_epochs {epochs} is too few to train {least}"):
        share_epochs(stages, epochs)


@pytest.mark.parametrize("rows_per_clip", [1, 3])
def test_every_row_is_seen_once_in_each_epoch_of_its_stage(rows_per_clip):
    counts = Counter(make_sampler(rows_per_clip))
    assert set(counts.values()) == {1}
    assert {epoch for _, epoch in counts} == {0, 1, 2, 3}
    assert {row for row, epoch in counts if epoch == 0} == set(range(30))
    assert all({row for row, epoch in counts if epoch == late} == set(range(30, 70)) for late in (1, 2, 3))


@pytest.mark.parametrize("rows_per_clip", [1, 3])
def test_processes_fill_up_the_last_batch_with_rows_that_do_not_count(rows_per_clip):
    alone, shared = make_sampler(rows_per_clip), make_sampler(rows_per_clip)
    shared.multiple_of = 16
    rows, filled = list(alone), list(shared)
    assert len(filled) == len(shared) == 160 and len(rows) == len(alone) == 150
    assert filled == rows + [(rows[-1][0], -1 - rows[-1][1])] * 10
    assert shared.stage_at(len(shared)) == ("long", 4.0)


def test_short_rows_come_before_long_ones():
    order = [row for row, _ in make_sampler()]
    assert max(order[:26]) < 30 <= min(order[34:])


@pytest.mark.parametrize("rows_per_clip", [1, 3])
def test_the_same_seed_gives_the_same_order_and_another_seed_another(rows_per_clip):
    assert list(make_sampler(rows_per_clip)) == list(make_sampler(rows_per_clip))
    assert list(make_sampler(rows_per_clip)) != list(make_sampler(rows_per_clip, seed=1))


def test_batches_hold_rows_of_like_length():
    rows = {"short": np.arange(4000), "long": np.arange(0)}
    lengths = np.random.default_rng(0).integers(3, 60, 4000)
    plans = plan_stages([Stage("short", 1)], rows, num_epochs=1)
    sampler = CurriculumSampler(plans, np.arange(4000), lengths, batch_size=8)
    batches = lengths[[row for row, _ in sampler]].reshape(-1, 8)
    assert np.ptp(batches, axis=1).mean() < 5 < np.ptp(lengths) / 2
    assert abs(np.corrcoef(np.arange(500), batches.mean(axis=1))[0, 1]) < 0.2  # not sorted over the run


def uneven_sampler(rows_per_clip: int) -> tuple[CurriculumSampler, np.ndarray, np.ndarray]:
    """Of each of 400 clips five short and six long rows, in batches of 32."""
    lengths = np.random.default_rng(0).integers([8] * 5 + [90] * 6, [20] * 5 + [129] * 6, (400, 11)).ravel()
    clips = np.repeat(np.arange(400), 11)
    plan = plan_stages([Stage("all", 1)], {"all": np.arange(4400)}, num_epochs=1)
    return CurriculumSampler(plan, clips, lengths, batch_size=32, rows_per_clip=rows_per_clip), clips, lengths


def batches_of(values: np.ndarray, sampler: CurriculumSampler) -> np.ndarray:
    return values[[row for row, _ in sampler]][: len(values) // 32 * 32].reshape(-1, 32)


def test_rows_of_a_clip_stay_together_when_asked_and_batches_still_hold_like_lengths():
    clips_a_batch, padded = {}, {}
    for rows_per_clip in (1, 3):
        sampler, clips, lengths = uneven_sampler(rows_per_clip)
        assert len(set(sampler)) == 4400
        clips_a_batch[rows_per_clip] = np.mean([len(set(batch)) for batch in batches_of(clips, sampler)])
        batches = batches_of(lengths, sampler)
        padded[rows_per_clip] = (batches.max(axis=1) * 32).sum() / batches.sum()
    assert clips_a_batch[3] < 17 < 28 < clips_a_batch[1]
    assert padded[3] < 1.07  # 1.8 in a random order


def test_rows_that_stay_together_are_of_one_clip_and_like_length():
    sampler, clips, lengths = uneven_sampler(rows_per_clip=3)
    rows = np.arange(4400)[np.lexsort((lengths, clips))]
    blocks = np.split(rows, sampler._block_starts(rows))
    assert max(len(block) for block in blocks) == 3
    for block in blocks:
        assert len(set(clips[block])) == 1
        assert np.ptp(lengths[block]) <= LIKE_LENGTH


def test_place_in_the_run_is_named_by_stage_and_epoch():
    sampler = make_sampler()
    assert sampler.stage_at(15) == ("short", 0.5)
    assert sampler.stage_at(30 + 60) == ("long", 2.5)
    assert sampler.stage_at(len(sampler)) == ("long", 4.0)


def test_a_stage_without_rows_is_named():
    with pytest.raises(ValueError, match="no rows for the stage 'long'"):
        plan_stages(STAGES, {"short": np.arange(3), "long": np.arange(0)}, num_epochs=4)


def test_tag_balanced_draws_choose_rare_tags_as_often_as_common_ones():
    tags = [("common",)] * 90 + [("rare",)] * 10
    (plan,) = plan_stages([Stage("captions", 1)], {"captions": np.arange(100)}, 1, draws=2000, tags=tags)
    rows = np.array([row for row, _ in CurriculumSampler([plan], np.arange(100), np.ones(100), batch_size=10)])
    assert len(rows) == 2000
    assert 0.45 < (rows >= 90).mean() < 0.55


def test_draws_without_tags_are_refused():
    with pytest.raises(ValueError, match="'captions' has tags"):
        plan_stages([Stage("captions", 1)], {"captions": np.arange(2)}, 1, draws=10, tags=[(), ()])


CURRICULUM = CurriculumSampler([StagePlan("all", np.arange(100), 3)], np.arange(100), np.ones(100), batch_size=8)


class OfTwoProcesses(TrainingSettings):
    world_size = 2


def make_settings(kind: type[TrainingSettings] = TrainingSettings, **changes) -> TrainingSettings:
    values = {"eval_epochs": 0.5, "save_strategy": "epoch", "eval_strategy": "epoch", "logging_steps": 50}
    return kind(output_dir="unused", use_cpu=True, **{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "rows", "steps"),
    [
        ({}, 8, 38), ({"kind": OfTwoProcesses}, 16, 19), ({"gradient_accumulation_steps": 4}, 32, 10),
        ({"max_steps": 5}, 8, 5),
    ],
)  # fmt: skip
def test_all_rows_are_seen_unless_fewer_steps_are_asked_for(changes, rows, steps):
    planned = plan_steps(make_settings(**changes), CURRICULUM, validated=True)
    assert (rows_per_step(planned), planned.max_steps) == (rows, steps)


def test_more_steps_than_the_epochs_have_are_named(caplog):
    assert plan_steps(make_settings(max_steps=39), CURRICULUM, validated=True).max_steps == 38
    assert "--max_steps 39: the epochs have 38 steps, after which training ends" in caplog.text


def copied(clip: str) -> Row:
    return Row(clip, None, "a song", None, "own", 0, 10)


def test_a_validation_clip_that_is_trained_on_under_another_id_is_left_out(caplog):
    rows = {"train": [copied("a")], "validation": [copied("copy"), copied("b")], "test": [copied("also")]}
    sounds = {"a": "1", "copy": "1", "b": "2", "also": "1"}
    held = hold_sounds_out({"short": rows, "long": {"train": rows["train"]}}, sounds.__getitem__)
    assert [row.clip_id for row in held["short"]["validation"]] == ["b"]
    assert held["short"]["test"] == rows["test"]
    assert "left out of validation: 1 clips whose sound is trained on, copy first, which sounds like a" in caplog.text


def test_epochs_between_saves_become_steps_and_a_number_of_steps_stands():
    planned = plan_steps(make_settings(save_steps=7), CURRICULUM, validated=True)
    assert (planned.save_steps, planned.eval_steps) == (7, 6)
    assert (planned.save_strategy, planned.eval_strategy) == ("steps", "steps")


def test_the_settings_themselves_stay_as_they_were_parsed():
    settings = make_settings()
    before = dict(vars(settings))
    plan_steps(settings, CURRICULUM, validated=False)
    assert vars(settings) == before


def test_a_share_of_the_run_becomes_steps():
    planned = plan_steps(make_settings(save_steps=0.5, eval_steps=0.1), CURRICULUM, validated=True)
    assert (planned.save_steps, planned.eval_steps) == (19, 4)


@pytest.mark.parametrize("strategy", ["no", "best"])
def test_other_strategies_stand(strategy):
    settings = make_settings(save_strategy=strategy, eval_strategy="no", metric_for_best_model="loss")
    planned = plan_steps(settings, CURRICULUM, validated=True)
    assert (planned.save_strategy, planned.eval_strategy) == (strategy, "no")


def test_the_best_model_is_refused_where_nothing_shows_it():
    settings = make_settings(save_steps=7, load_best_model_at_end=True)
    with pytest.raises(ValueError, match="every 7 steps does not fall on a validation every 6"):
        plan_steps(settings, CURRICULUM, validated=True)
    with pytest.raises(ValueError, match="nothing is validated on, which shows no best model"):
        plan_steps(settings, CURRICULUM, validated=False)
    assert plan_steps(make_settings(), CURRICULUM, validated=False).eval_strategy == "no"
