"""Epochs and rows as optimizer steps, over accumulation and processes."""

from types import SimpleNamespace

import numpy as np
import pytest

from descant.training.curriculum import CurriculumSampler, StagePlan
from descant.training.steps import rows_per_step, set_steps, validate_nothing

CURRICULUM = CurriculumSampler([StagePlan("all", np.arange(100), 3)], np.arange(100), np.ones(100), batch_size=8)


def settings(**changes) -> SimpleNamespace:
    values = {
        "per_device_train_batch_size": 8, "world_size": 1, "gradient_accumulation_steps": 1, "max_steps": -1,
        "save_steps": 0, "eval_steps": 0, "save_epochs": 1.0, "eval_epochs": 0.5, "logging_steps": 50,
        "save_strategy": "epoch", "eval_strategy": "epoch", "load_best_model_at_end": False,
    }  # fmt: skip
    return SimpleNamespace(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "rows", "steps"),
    [({}, 8, 38), ({"world_size": 2}, 16, 19), ({"gradient_accumulation_steps": 4}, 32, 10), ({"max_steps": 5}, 8, 5)],
)
def test_all_rows_are_seen_unless_fewer_steps_are_asked_for(changes, rows, steps):
    args = settings(**changes)
    set_steps(args, CURRICULUM)
    assert (rows_per_step(args), args.max_steps) == (rows, steps)


def test_epochs_between_saves_become_steps_and_a_number_of_steps_stands():
    args = settings(save_steps=7)
    set_steps(args, CURRICULUM)
    assert (args.save_steps, args.eval_steps) == (7, 6)
    assert (args.save_strategy, args.eval_strategy) == ("steps", "steps")


def test_a_share_of_the_run_becomes_steps():
    args = settings(save_steps=0.5, eval_steps=0.1)
    set_steps(args, CURRICULUM)
    assert (args.save_steps, args.eval_steps) == (19, 4)


@pytest.mark.parametrize("strategy", ["no", "best"])
def test_other_strategies_stand(strategy):
    args = settings(save_strategy=strategy, eval_strategy="no")
    set_steps(args, CURRICULUM)
    assert (args.save_strategy, args.eval_strategy) == (strategy, "no")


def test_the_best_model_is_refused_where_nothing_shows_it():
    with pytest.raises(ValueError, match="every 7 steps does not fall on a validation every 6"):
        set_steps(settings(save_steps=7, load_best_model_at_end=True), CURRICULUM)
    with pytest.raises(ValueError, match="nothing is validated on, which shows no best model"):
        validate_nothing(settings(load_best_model_at_end=True))
    args = settings()
    validate_nothing(args)
    assert args.eval_strategy == "no"
