"""Epochs and rows as optimizer steps, over accumulation and processes."""

from types import SimpleNamespace

import numpy as np
import pytest

from descant.training.curriculum import CurriculumSampler, StagePlan
from descant.training.steps import rows_per_step, set_steps

CURRICULUM = CurriculumSampler([StagePlan("all", np.arange(100), 3)], np.arange(100), np.ones(100), batch_size=8)


def settings(**changes) -> SimpleNamespace:
    values = {
        "per_device_train_batch_size": 8, "world_size": 1, "gradient_accumulation_steps": 1, "max_steps": -1,
        "save_steps": 0, "eval_steps": 0, "save_epochs": 1.0, "eval_epochs": 0.5, "logging_steps": 50,
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
