"""A run from its recipe: what it refuses, which checkpoints it leaves, what it reports."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import save_tiny_model
from tiny_recipe import run_recipe, write_corpus

from descant.training import Recipe, Stage, train
from descant.training.checkpoints import list_checkpoints


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "corpus"
    write_corpus(folder)
    return folder


def run(corpus: Path, output_dir: Path, **more: object) -> list[dict]:
    """The log of a short run."""
    run_recipe(corpus, output_dir, lambda _: None, **{"eval_answers": 0, **more})
    return [json.loads(line) for line in (output_dir / "training_log.jsonl").read_text().splitlines()]


def test_a_run_goes_on_with_its_own_rows_alone(tmp_path):
    write_corpus(tmp_path / "corpus")
    run(tmp_path / "corpus", tmp_path / "out", max_steps=1)
    run(tmp_path / "corpus", tmp_path / "out", max_steps=1)
    table = tmp_path / "corpus" / "songs.csv"
    table.write_text(table.read_text().replace("jazz rock", "folk rock"))
    with pytest.raises(ValueError, match=r"training_data = '\d+ rows, hash .*choose another --output_dir"):
        run(tmp_path / "corpus", tmp_path / "out", max_steps=1)


def test_neither_checkpoints_nor_validation_where_none_are_wanted(corpus, tmp_path):
    log = run(corpus, tmp_path, save_strategy="no", eval_strategy="no", max_steps=3)
    assert not list_checkpoints(tmp_path) and (tmp_path / "model.safetensors").is_file()
    assert any("loss" in line for line in log) and not any("eval_loss" in line for line in log)


@pytest.mark.parametrize("greater_is_better", [True, False])  # the last checkpoint is one of both at most
def test_the_best_model_is_the_one_that_is_saved(corpus, tmp_path, greater_is_better):
    options = {"metric_for_best_model": "loss", "greater_is_better": greater_is_better, "eval_steps": 2}
    log = run(corpus, tmp_path, load_best_model_at_end=True, **options)
    losses = {line["step"]: line["eval_loss"] for line in log if "eval_loss" in line}
    best = tmp_path / f"checkpoint-{(max if greater_is_better else min)(losses, key=losses.get)}"
    expected, saved = (load_file(folder / "model.safetensors") for folder in (best, tmp_path))
    assert all(torch.equal(weight, saved[name]) for name, weight in expected.items())


def test_a_demo_of_few_clips_reports_those_clips(tmp_path, capsys):
    start = save_tiny_model(tmp_path / "tiny")
    train(Recipe("mi_short", (Stage("short", 1),)), [
        "--demo", "--init_from", str(start), "--features", str(tmp_path / "features"), "--max_clips", "2",
        "--max_steps", "1", "--per_device_train_batch_size", "4", "--eval_rows", "0", "--use_cpu", "--disable_tqdm",
        "True", "--output_dir", str(tmp_path / "out"),
    ])  # fmt: skip
    assert "Known grooves in new keys: exact answers to" in capsys.readouterr().out
    scores = json.loads((tmp_path / "out" / "listening.json").read_text())
    assert set(scores) == {"test", "test_grooves"} and scores["test"]["n"] < 40


def test_too_few_epochs_are_refused_with_status_2(tmp_path, caplog):
    recipe = Recipe("mi_short_long", (Stage("short", 25), Stage("long", 75)))
    with pytest.raises(SystemExit) as ended:
        train(recipe, ["--demo", "--num_train_epochs", "1", "--output_dir", str(tmp_path)])
    assert ended.value.code == 2
    assert "--num_train_epochs 1 is too few to train short, then long: give at least 2" in caplog.text
