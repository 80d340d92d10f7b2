"""What is printed before a run starts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from descant.data.annotations import Row
from descant.data.sources import Corpus
from descant.training.arguments import parse_settings
from descant.training.curriculum import CurriculumSampler, StagePlan
from descant.training.plan import describe_plan, print_plan
from descant.training.recipe import Recipe, Stage

RECIPE = Recipe("mi_short_long", (Stage("short", 1), Stage("long", 2)))


def settings(**changes) -> SimpleNamespace:
    values = {
        "process_index": 0, "init_from": None, "max_steps": 1500, "world_size": 2, "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 4, "mixed_precision": "no", "device": torch.device("cpu"),
        "learning_rate": 1e-4, "output_dir": "outputs/some", "save_steps": 500,
        "save_strategy": "steps",
    }  # fmt: skip
    return SimpleNamespace(**{**values, **changes})


def describe(**changes) -> str:
    rows = {
        split: [Row(f"{split}{number}", None, "a song", None, "own", 0, 10) for number in (0, 1, 1)]
        for split in ("train", "test")
    }
    corpus = Corpus("own/songs", "main", "cc-by-4.0", {"short": rows, "long": rows})
    stages = [StagePlan("short", np.arange(1000), 1), StagePlan("long", np.arange(2000), 2)]
    curriculum = CurriculumSampler(stages, np.arange(2000), np.ones(2000), batch_size=8)
    model = torch.nn.Linear(30, 100)
    model.bias.requires_grad_(False)
    return "\n".join(describe_plan(RECIPE, settings(**changes), corpus, curriculum, model))


def test_data_stages_steps_and_batch_are_told():
    plan = describe()
    assert "mi_short_long: Linear, 3,000 trainable parameters, from random weights" in plan
    assert "own/songs (cc-by-4.0): 2 test clips, 2 train clips" in plan
    assert "1 epochs of 1,000 short rows, then 2 epochs of 2,000 long rows" in plan
    assert "1,500 of 64 rows (2 processes x 8 x 4 accumulated)" in plan
    assert "fp32 on cpu, learning rate 0.0001" in plan
    assert "outputs/some (checkpoint every 500 steps)" in plan


def test_precision_is_the_one_that_accelerate_works_in(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    chosen = parse_settings(RECIPE, ["--demo", "--use_cpu", "--output_dir", str(tmp_path)])
    assert "bf16 on cpu" in describe(mixed_precision=chosen.mixed_precision)


@pytest.mark.parametrize(("strategy", "told"), [("no", "no checkpoints"), ("best", "checkpoint of the best model")])
def test_checkpoints_that_are_not_by_steps_are_told(strategy, told):
    assert f"outputs/some ({told})" in describe(save_strategy=strategy)


def test_a_start_is_named():
    assert "from lab/captioner" in describe(init_from="lab/captioner")


def test_only_the_first_process_prints(capsys, monkeypatch):
    monkeypatch.setattr("descant.training.plan.describe_plan", lambda *_: ["the plan"])
    print_plan(RECIPE, settings(process_index=1), None, None, None)
    assert capsys.readouterr().err == ""
    print_plan(RECIPE, settings(), None, None, None)
    assert capsys.readouterr().err == "the plan\n"
