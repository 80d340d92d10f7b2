"""Every recipe trains on the embedded corpus for a few steps; every accelerate config parses."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from tiny import save_tiny_model
from tiny_mert_lm import save_parts
from transformers import (
    AutoModelForMultimodalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoProcessor,
)

import descant
from descant.models import box
from descant.models.mert_lm.processing_mert_lm import AUDIO_TOKEN
from descant.publish.facts import read_records
from descant.subgenre import run as subgenre_run
from descant.training import Recipe
from descant.training.run import read_job, run

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.py"))
TRAINING_RECIPES = [path for path in RECIPES if path.stem.startswith(("mi_", "lp_musiccaps_"))]
CONFIGS = sorted((ROOT / "accelerate_configs").glob("*.yaml"))


def load_recipe(path: Path) -> Recipe:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.RECIPE


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    save_tiny_model(folder / "tiny")
    return folder


@pytest.mark.parametrize("path", TRAINING_RECIPES, ids=lambda path: path.stem)
def test_recipe_trains_saves_and_records_what_it_trained_on(path, workplace):
    output = workplace / path.stem
    job = read_job(
        load_recipe(path),
        ["--demo", "--init_from", str(workplace / "tiny"), "--features", str(workplace / "features"),
         "--max_clips", "6", "--max_steps", "2", "--per_device_train_batch_size", "8", "--eval_steps", "2",
         "--eval_answers", "2", "--no_report", "--output_dir", str(output), "--disable_tqdm", "True"],
    )  # fmt: skip
    run(job)
    AutoModelForSeq2SeqLM.from_pretrained(output)
    AutoProcessor.from_pretrained(output)
    datasets, clips = read_records(str(output))
    assert (datasets[-1]["id"], datasets[-1]["split"], len(clips)) == ("descant/demo", "train", 6)
    log = [json.loads(line) for line in (output / "training_log.jsonl").read_text().splitlines()]
    assert any("loss" in line for line in log) and any("eval_loss" in line for line in log)
    assert (output / "loss.png").stat().st_size > 1000


def test_the_demo_goes_on_from_the_box_with_the_words_of_the_corpus(tmp_path):
    recipe = load_recipe(ROOT / "recipes" / "mi_short_long.py")
    flags = ["--demo", "--max_clips", "2", "--max_steps", "2", "--num_train_epochs", "2", "--branch_warm_up_epochs"]
    flags += ["1", "--projector_branch", "8", "--no_report", "--eval_rows", "0", "--disable_tqdm", "True"]
    job = read_job(recipe, [*flags, "--features", str(tmp_path / "features"), "--output_dir", str(tmp_path / "run")])
    folder = run(job)
    model = AutoModelForMultimodalLM.from_pretrained(folder)
    tokenizer = AutoProcessor.from_pretrained(folder).tokenizer
    before = AutoProcessor.from_pretrained(box.FOLDER).tokenizer
    words = set(tokenizer.get_vocab()) - set(before.get_vocab())
    assert words and model.get_input_embeddings().num_embeddings == len(before) - 1 + len(words)
    assert model.config.audio_token_id == tokenizer.convert_tokens_to_ids(AUDIO_TOKEN) == len(tokenizer) - 1
    assert descant.load(folder).ask(np.ones(160_000, np.float32) / 9, "Are there drums?", sampling_rate=16_000)
    assert model.config.projector_branch == 8 and model.decision_config.question_types
    datasets, clips = read_records(str(folder))
    assert [one["id"] for one in datasets] == ["descant/box", "descant/demo"] and len(clips) > 1000
    assert "descant/box" in (folder / "README.md").read_text()


@pytest.mark.parametrize("encoder", ["a folder", "musicnn"])
def test_the_two_stages_of_mert_lm_follow_each_other(tmp_path, encoder):
    parts = save_parts(tmp_path / "parts")
    heard = parts[0] if encoder == "a folder" else encoder
    joined = ["--audio_encoder", heard, "--text_model", parts[1], "--pooling", "mean"]
    lora = ["--lora_rank", "2", "--lora_targets", r"language_model\..*\.(q_proj|v_proj)"]
    starts = {
        "mert_lm_captions": joined, "mert_lm_instruct": ["--init_from", str(tmp_path / "mert_lm_captions"), *lora],
    }  # fmt: skip
    for name, start in starts.items():
        recipe = load_recipe(ROOT / "recipes" / f"{name}.py")
        job = read_job(
            recipe,
            ["--demo", *start, "--features", str(tmp_path / "features"), "--max_clips", "4", "--max_steps", "2",
             "--per_device_train_batch_size", "4", "--eval_rows", "4", "--eval_answers", "2", "--no_report",
             "--output_dir", str(tmp_path / name), "--disable_tqdm", "True"],
        )  # fmt: skip
        run(job)
    assert len(list((tmp_path / "features").iterdir())) == 1  # both stages heard the same cached states
    first, second = tmp_path / "mert_lm_captions", tmp_path / "mert_lm_instruct"
    assert {path.name for path in first.glob("*.safetensors")} == {"model.safetensors"}
    assert {path.name for path in second.glob("*.safetensors")} == {"adapter_model.safetensors"}
    stages = [AutoModelForMultimodalLM.from_pretrained(folder) for folder in (first, second)]
    adapted = {name.split(".")[-4] for name, _ in stages[1].named_parameters() if "lora_A" in name}
    assert adapted == {"q_proj", "v_proj"}
    weights = [dict(model.audio_encoder.named_parameters()) for model in stages]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())
    datasets, clips = read_records(str(second))
    assert [one["configs"] for one in datasets] == [["captions"], ["short"]] and len(clips) == 4


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_short_and_begins_with_its_launch_command(path):
    text = path.read_text()
    assert len(text.splitlines()) < 60
    assert f"accelerate launch recipes/{path.name}" in text


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_config_parses(path):
    assert load_config_from_file(str(path)).mixed_precision in ("no", "bf16")
    allowed = {"gradient_accumulation_steps", "learning_rate", "num_train_epochs"}
    assert not allowed & set(yaml.safe_load(path.read_text()))


def test_the_configs_of_the_readme_are_there():
    names = {path.stem for path in CONFIGS}
    assert names == {"cpu", "cpu_2_processes", "single_gpu", "ddp", "fsdp2", "zero2", "two_nodes"}


def test_lora_leaves_an_adapter_that_loads_onto_its_base(workplace):
    path, output = ROOT / "recipes" / "mi_short.py", workplace / "lora"
    job = read_job(
        load_recipe(path),
        ["--demo", "--init_from", str(workplace / "tiny"), "--features", str(workplace / "features"),
         "--max_clips", "6", "--max_steps", "2", "--per_device_train_batch_size", "8", "--eval_rows", "0",
         "--lora", "--lora_rank", "2", "--no_report", "--output_dir", str(output), "--disable_tqdm", "True"],
    )  # fmt: skip
    run(job)
    assert (output / "adapter_config.json").is_file()
    loaded = AutoModelForSeq2SeqLM.from_pretrained(output)
    assert any("lora_A" in name for name, _ in loaded.named_parameters())


RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "subgenre.py"


def test_recipe_trains_on_the_demo_and_writes_table_and_card(tmp_path):
    spec = importlib.util.spec_from_file_location("subgenre", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    captioner = save_tiny_model(tmp_path / "captioner")
    job = subgenre_run.read_job(
        module.RECIPE,
        ["--demo", "--captioner", str(captioner), "--features", str(tmp_path / "features"),
         "--max_tracks", "6", "--num_train_epochs", "1", "--no_compare", "--output_dir", str(tmp_path / "run"),
         "--disable_tqdm", "True"],
    )  # fmt: skip
    folder = subgenre_run.run(job)
    AutoModelForSequenceClassification.from_pretrained(folder)
    AutoProcessor.from_pretrained(folder)
    assert "| fusion | " in (folder / "subgenres.md").read_text()
    assert "descant classify" in (folder / "README.md").read_text()
