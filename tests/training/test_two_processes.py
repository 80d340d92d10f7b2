"""Two gloo processes train like one with the same global batch, and measure every validation row once."""

import json
import runpy
from pathlib import Path

import pytest
from forked_python import run_ranks
from tiny import build_tiny_model

from descant.training.run import read_job, run

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "mi_short.py"


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A tiny model without dropout, whose random masks would differ between one process and two."""
    folder = tmp_path_factory.mktemp("two_processes")
    model, processor = build_tiny_model()
    model.config.update({"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "init_std": 0.02})
    model.save_pretrained(folder / "start")
    processor.save_pretrained(folder / "start")
    return folder


def train(folder: Path, name: str, batch_size: int, processes: int, accumulation: int = 1) -> list[dict]:
    """The log of six steps on the embedded corpus."""
    options = [
        "--demo", "--init_from", str(folder / "start"),
        "--features", str(folder / "features"), "--max_clips", "8", "--max_steps", "6", "--logging_steps", "1",
        "--per_device_train_batch_size", str(batch_size), "--gradient_accumulation_steps", str(accumulation),
        "--eval_steps", "6", "--eval_answers", "5", "--augment", "False", "--learning_rate", "1e-3", "--no_report",
        "--output_dir", str(folder / name), "--disable_tqdm", "True",
    ]  # fmt: skip
    if processes == 1:
        run(read_job(runpy.run_path(str(RECIPE))["RECIPE"], options))
    else:
        run_ranks(2, RECIPE, *options)
    return [json.loads(line) for line in (folder / name / "training_log.jsonl").read_text().splitlines()]


def losses(log: list[dict]) -> list[float]:
    return [line["loss"] for line in log if "loss" in line]


def test_two_processes_and_accumulation_give_the_losses_of_one_process(start):
    one = train(start, "one", batch_size=8, processes=1)
    two = train(start, "two", batch_size=4, processes=2)
    accumulated = train(start, "accumulated", batch_size=4, processes=1, accumulation=2)
    assert len(losses(one)) == 6
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    assert losses(accumulated) == pytest.approx(losses(one), abs=1e-4)
    (measured_by_one,), (measured_by_two,) = ([line for line in log if "eval_loss" in line] for log in (one, two))
    assert measured_by_two["eval_loss"] == pytest.approx(measured_by_one["eval_loss"], abs=1e-4)
    assert measured_by_two["eval_answer_words"] == pytest.approx(measured_by_one["eval_answer_words"])
