"""A run from its recipe: what it refuses, which checkpoints it leaves, what it reports."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import save_tiny_decider, save_tiny_model
from tiny_recipe import run_recipe, write_corpus

from descant.data.annotations import Row
from descant.data.corpus import Corpus
from descant.training import train
from descant.training.recipe import Recipe, Stage
from descant.training.run import QuestionRun, describe_plan, read_job
from descant.training.saving import list_checkpoints
from descant.training.settings import with_changes
from descant.training.start import add_lora, load_start
from descant.training.training_data import CurriculumSampler, StagePlan


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
    start = save_tiny_decider(tmp_path / "tiny")
    train(Recipe("mi_short", (Stage("short", 1),)), [
        "--demo", "--init_from", str(start), "--features", str(tmp_path / "features"), "--max_clips", "2",
        "--max_steps", "1", "--per_device_train_batch_size", "4", "--eval_rows", "0", "--use_cpu", "--disable_tqdm",
        "True", "--output_dir", str(tmp_path / "out"),
    ])  # fmt: skip
    assert "Known grooves in new keys: exact answers to" in capsys.readouterr().out
    scores = json.loads((tmp_path / "out" / "listening.json").read_text())
    assert set(scores) == {"test", "test_grooves"} and scores["test"]["n"] < 40
    fitted = json.loads((tmp_path / "out" / "decision.json").read_text())
    # Two clips, each of them varied twice, and two made sounds of four kinds.
    assert fitted["question_types"] and len(fitted["reference"]["centres"]) == 2 * 3 + 2 * 4
    assert fitted["fitted_for"]


def test_too_few_epochs_are_refused_with_status_2(tmp_path, caplog):
    recipe = Recipe("mi_short_long", (Stage("short", 25), Stage("long", 75)))
    with pytest.raises(SystemExit) as ended:
        train(recipe, ["--demo", "--num_train_epochs", "1", "--output_dir", str(tmp_path)])
    assert ended.value.code == 2
    assert "--num_train_epochs 1 is too few to train short, then long: give at least 2" in caplog.text


def licensed_corpus(licence: str) -> Corpus:
    return Corpus("mine", "1", licence, {})


PUSH = ("--push_to_hub", "--hub_model_id", "tester/model")


def run_of(*argv: str) -> QuestionRun:
    return QuestionRun(read_job(Recipe("mi_short", (Stage("short", 1),)), ["--dataset", "mine", "--use_cpu", *argv]))


@pytest.mark.parametrize(
    ("argv", "licence", "message"),
    [
        (["--push_to_hub"], "apache-2.0", "--push_to_hub needs --hub_model_id"),
        (PUSH, "unknown", "licence of mine"),
        ([*PUSH, "--license", "apache-2.0"], "cc-by-nc-4.0", "non-commercial use only"),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_training(argv, licence, message):
    with pytest.raises(ValueError, match=message):
        run_of(*argv).check_hub(licensed_corpus(licence))


def test_an_adapter_is_pushed_where_others_have_its_base(tmp_path, monkeypatch, local_hub):
    base = save_tiny_model(tmp_path / "base")
    model, processor = load_start(str(base))
    refused = pytest.raises(ValueError, match="--push_to_hub of a LoRA adapter needs --init_from HUB_ID")
    with refused:
        run_of(*PUSH, "--lora", "--init_from", str(base)).check_hub(licensed_corpus("mit"))
    add_lora(model, 2).save_pretrained(tmp_path / "adapter")
    processor.save_pretrained(tmp_path / "adapter")
    with refused:
        run_of(*PUSH, "--init_from", str(tmp_path / "adapter")).check_hub(licensed_corpus("mit"))
    monkeypatch.setattr("descant.training.run.find_adapter_base", lambda _: "lab/base")
    argv = (*PUSH, "--init_from", str(tmp_path / "adapter"), "--license", "mit")
    run_of(*argv).check_hub(licensed_corpus("mit"))
    run_of(*PUSH, "--lora").check_hub(licensed_corpus("mit"))  # of a new model: it is merged


def test_a_start_whose_origin_nobody_knows_needs_a_licence(tmp_path, local_hub):
    start = (*PUSH, "--init_from", str(save_tiny_model(tmp_path / "start")))
    with pytest.raises(ValueError, match="nothing says the licence of start"):
        run_of(*start).check_hub(licensed_corpus("mit"))
    run_of(*start, "--license", "mit").check_hub(licensed_corpus("mit"))


def test_a_start_whose_records_are_out_of_reach_is_refused_before_training(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="--init_from nobody/model: cannot be loaded: .*what it was trained on"):
        run_of("--init_from", "nobody/model").check_hub(licensed_corpus("mit"))


def test_nothing_is_asked_of_a_run_that_stays_here():
    run_of().check_hub(licensed_corpus("unknown"))


def test_a_recipe_pushes_its_finished_model_in_one_commit(local_hub, tmp_path):
    train(Recipe("mi_short", (Stage("short", 1),)), [
        "--demo", "--init_from", str(save_tiny_model(tmp_path / "tiny")), "--features", str(tmp_path / "features"),
        "--max_clips", "3", "--max_steps", "1", "--per_device_train_batch_size", "4", "--eval_rows", "0",
        "--no_report", "--output_dir", str(tmp_path / "out"), "--disable_tqdm", "True", "--use_cpu", *PUSH,
        "--license", "apache-2.0",
    ])  # fmt: skip
    assert len(local_hub.commits("tester/model")) == 2
    files = local_hub.files("tester/model", "model")
    assert {"model.safetensors", "README.md", "modeling_lp_music_caps.py", "training_data.json"} <= set(files)
    assert b"descant/demo" in files["README.md"]


RECIPE = Recipe("mi_short_long", (Stage("short", 1), Stage("long", 2)))


def describe(*argv: str, stages: list[StagePlan] | None = None, **changes: object) -> str:
    rows = {
        split: [Row(f"{split}{number}", None, "a song", None, "own", 0, 10) for number in (0, 1, 1)]
        for split in ("train", "test")
    }
    corpus = Corpus("own/songs", "main", "cc-by-4.0", {"short": rows, "long": rows})
    stages = stages or [StagePlan("short", np.arange(1000), 1), StagePlan("long", np.arange(2000), 2)]
    curriculum = CurriculumSampler(stages, np.arange(2000), np.ones(2000), batch_size=8)
    model = torch.nn.Linear(30, 100)
    model.bias.requires_grad_(False)
    argv = ("--dataset", "x", "--use_cpu", "--output_dir", "outputs/some", *argv)
    sizes = {"max_steps": 1500, "save_strategy": "steps", "save_steps": 500, "per_device_train_batch_size": 8}
    settings = with_changes(read_job(RECIPE, argv).settings, **{**sizes, **changes})
    return "\n".join(describe_plan(RECIPE.name, settings, corpus, curriculum, model))


def test_data_stages_steps_and_batch_are_told():
    plan = describe("--gradient_accumulation_steps", "4")
    assert "mi_short_long: Linear, 3,000 of 3,100 parameters train, from random weights" in plan
    assert "own/songs (cc-by-4.0): 2 test clips, 2 train clips" in plan
    assert "1 epochs of 1,000 short rows, then 2 epochs of 2,000 long rows" in plan
    assert "1,500 of 32 rows (1 processes x 8 x 4 accumulated)" in plan
    assert "fp32 on cpu, learning rate 0.0001" in plan
    assert "outputs/some (checkpoint every 500 steps)" in plan


def test_tag_balanced_draws_are_told():
    plan = describe(stages=[StagePlan("captions", np.arange(1000), 2, draws=64)])
    assert "2 epochs of 64 draws of 1,000 captions rows" in plan


def test_precision_is_the_one_that_accelerate_works_in(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert "bf16 on cpu" in describe()


@pytest.mark.parametrize(("strategy", "told"), [("no", "no checkpoints"), ("best", "checkpoint of the best model")])
def test_checkpoints_that_are_not_by_steps_are_told(strategy, told):
    assert f"outputs/some ({told})" in describe(save_strategy=strategy)


def test_a_run_whose_learning_rate_never_leaves_the_warm_up_says_so():
    assert "warm-up" not in describe("--warmup_steps", "0.2", max_steps=2)
    assert "all of it is warm-up" in describe("--warmup_steps", "0.2", max_steps=1)


def test_a_start_is_named():
    assert "from lab/captioner" in describe("--init_from", "lab/captioner")
