"""What is refused before training when the result is to be pushed, and a recipe that pushes in one commit."""

from types import SimpleNamespace

import pytest
from tiny import save_tiny_model

from descant.data.sources import Corpus
from descant.training.finish import check_hub

SETTINGS = {
    "publish": True, "hub_model_id": "tester/model", "hub_private_repo": None, "lora": False, "init_from": None,
    "license": None, "process_index": 1, "audio_encoder": None, "text_model": None,
}  # fmt: skip


def corpus(licence: str) -> Corpus:
    return Corpus("mine", "1", licence, {})


@pytest.mark.parametrize(
    ("changes", "licence", "message"),
    [
        ({"hub_model_id": None}, "apache-2.0", "--push_to_hub needs --hub_model_id"),
        ({"lora": True}, "apache-2.0", "needs --init_from HUB_ID"),
        ({}, "unknown", "licence of mine"),
        ({"license": "apache-2.0"}, "cc-by-nc-4.0", "non-commercial use only"),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_training(changes, licence, message):
    with pytest.raises(ValueError, match=message):
        check_hub(SimpleNamespace(**{**SETTINGS, **changes}), corpus(licence))


def test_a_start_whose_origin_nobody_knows_needs_a_licence(tmp_path):
    start = SimpleNamespace(**{**SETTINGS, "init_from": str(save_tiny_model(tmp_path / "start"))})
    with pytest.raises(ValueError, match="nothing says the licence of start"):
        check_hub(start, corpus("mit"))
    check_hub(SimpleNamespace(**{**vars(start), "license": "mit"}), corpus("mit"))


def test_a_start_whose_records_are_out_of_reach_is_refused_before_training(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    away = SimpleNamespace(**{**SETTINGS, "init_from": "nobody/model", "publish": False})
    with pytest.raises(ValueError, match="--init_from nobody/model: cannot be loaded: .*what it was trained on"):
        check_hub(away, corpus("mit"))


def test_nothing_is_asked_of_a_run_that_stays_here():
    check_hub(SimpleNamespace(**{**SETTINGS, "publish": False, "hub_model_id": None}), corpus("unknown"))


def test_a_recipe_pushes_its_finished_model_in_one_commit(local_hub, tmp_path):
    save_tiny_model(tmp_path / "tiny")
    code = f"""
import sys
from descant.training import Recipe, Stage, train
train(Recipe("mi_short", (Stage("short", 1),)), [
    "--demo", "--init_from", {str(tmp_path / "tiny")!r}, "--features", {str(tmp_path / "features")!r},
    "--max_clips", "3", "--max_steps", "1", "--per_device_train_batch_size", "4", "--eval_rows", "0", "--no_report",
    "--output_dir", {str(tmp_path / "out")!r}, "--disable_tqdm", "True",
    "--push_to_hub", "--hub_model_id", "tester/model", "--license", "apache-2.0"])
"""
    done = local_hub.run(tmp_path / "home", "-c", code)
    assert done.returncode == 0, done.stderr[-3000:]
    files = local_hub.files("tester/model", "model")
    assert {"model.safetensors", "README.md", "modeling_lp_music_caps.py", "training_data.json"} <= set(files)
    assert b"descant/demo" in files["README.md"]
