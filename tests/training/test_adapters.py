"""Adapters from one run to the next: the same for the same seed, trained on, and never for a model that nobody has."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import save_tiny_model
from tiny_mert_lm import save_parts, save_tiny_mert_lm
from transformers import AutoModelForMultimodalLM

from descant.answering.model_folder import load_model
from descant.training import Recipe, Stage, start_mert_lm
from descant.training.run import read_job, run

RECIPE = Recipe("mi_short", (Stage("short", 1),))
MERT_LM = Recipe("mert_lm", (Stage("short", 1),), start=lambda: start_mert_lm)
LORA = ("--lora", "--lora_rank", "2")
STILL = ("--learning_rate", "1e-20")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    save_tiny_model(folder / "base")
    save_tiny_mert_lm(folder / "mert_lm")
    return folder


def train(workplace: Path, output_dir: Path, *argv: str, recipe: Recipe = RECIPE) -> Path:
    """A run of two steps on three clips."""
    return run(read_job(recipe, [
        "--demo", "--features", str(workplace / "features"), "--max_clips", "3", "--max_steps", "2", "--no_report",
        "--per_device_train_batch_size", "4", "--eval_rows", "0", "--use_cpu", "--disable_tqdm", "True",
        "--output_dir", str(output_dir), *argv,
    ]))  # fmt: skip


@pytest.fixture(scope="module")
def firsts(workplace) -> dict[str, Path]:
    """The adapters of two first runs."""
    return {
        "lp_music_caps": train(workplace, workplace / "first", "--init_from", str(workplace / "base"), *LORA),
        "mert_lm": train(
            workplace, workplace / "first_mert_lm", "--init_from", str(workplace / "mert_lm" / "model"), *LORA,
            recipe=MERT_LM,
        ),
    }  # fmt: skip


@pytest.fixture
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out of later runs what the first ones, and the runs of recipes, do beside training."""
    monkeypatch.setattr("descant.training.run.save_decisions", lambda *_, **__: None)
    monkeypatch.setattr("descant.training.run_folder.draw_curve", lambda _, path, __: path.write_bytes(b"drawn"))


def read_adapter(folder: Path) -> dict[str, torch.Tensor]:
    assert not list(folder.glob("model*.safetensors"))
    return load_file(folder / "adapter_model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(weight, other[name]) for name, weight in one.items())


@pytest.mark.usefixtures("_quickly")
def test_a_seed_decides_the_adapter_whatever_was_drawn_before(workplace, firsts, tmp_path):
    argv = ("--init_from", str(workplace / "base"), *LORA)
    first = read_adapter(firsts["lp_music_caps"])
    torch.rand(5)
    assert same(first, read_adapter(train(workplace, tmp_path / "second", *argv)))
    assert not same(first, read_adapter(train(workplace, tmp_path / "third", *argv, "--seed", "7")))


@pytest.mark.usefixtures("_quickly")
@pytest.mark.parametrize("again", [("--lora",), ()], ids=["with --lora", "without"])
@pytest.mark.parametrize("kind", ["lp_music_caps", "mert_lm"])
def test_the_adapter_of_an_earlier_run_trains_on(workplace, firsts, tmp_path, capsys, kind, again):
    recipe, first = RECIPE if kind == "lp_music_caps" else MERT_LM, firsts[kind]
    learnt = read_adapter(first)
    assert any(weight.abs().max() > 0 for name, weight in learnt.items() if "lora_B" in name)
    capsys.readouterr()
    still = train(workplace, tmp_path / "still", "--init_from", str(first), *again, *STILL, recipe=recipe)
    assert "with a LoRA adapter, " in capsys.readouterr().err
    kept = read_adapter(still)
    assert kept.keys() == learnt.keys()
    for name, weight in learnt.items():
        torch.testing.assert_close(kept[name], weight, atol=1e-9, rtol=1e-6, msg=name)
    on = read_adapter(train(workplace, tmp_path / "on", "--init_from", str(first), *again, recipe=recipe))
    assert on.keys() == learnt.keys() and not same(on, learnt)
    assert all(not torch.equal(on[name], weight) for name, weight in learnt.items() if "lora_" in name)
    answers = [load_model(folder)[0].state_dict() for folder in (first, still)]
    assert answers[0].keys() == answers[1].keys()


def test_another_rank_than_the_adapter_has_is_refused_before_the_first_step(workplace, firsts, tmp_path):
    with pytest.raises(ValueError, match="--lora_rank 4: the adapter of --init_from .*first has 2 and trains on"):
        train(workplace, tmp_path / "next", "--init_from", str(firsts["lp_music_caps"]), "--lora", "--lora_rank", "4")
    assert not list((tmp_path / "next").glob("*.json"))


@pytest.mark.parametrize("recipe", [RECIPE, MERT_LM], ids=["lp_music_caps", "mert_lm"])
def test_an_adapter_of_a_new_model_is_merged_for_nobody_has_that_model(workplace, tmp_path, recipe):
    warm_up = ("--audio_warm_up_epochs", "1") if recipe is RECIPE else ()
    folder = train(workplace, tmp_path / "new", *LORA, *warm_up, recipe=recipe)
    assert not (folder / "adapter_config.json").exists()
    model, found = AutoModelForMultimodalLM.from_pretrained(folder, output_loading_info=True)
    assert not any("lora_" in name for name in model.state_dict())
    assert not found["missing_keys"] and not found["unexpected_keys"]


@pytest.mark.usefixtures("_quickly")
def test_an_adapter_of_joined_parts_is_loaded_onto_them_and_trains_on(workplace, tmp_path):
    parts = save_parts(tmp_path / "parts")
    joined = ("--audio_encoder", parts[0], "--text_model", parts[1], "--pooling", "mean", *LORA)
    first = train(workplace, tmp_path / "first", *joined, recipe=MERT_LM)
    learnt = read_adapter(first)
    kept = read_adapter(train(workplace, tmp_path / "on", "--init_from", str(first), *STILL, recipe=MERT_LM))
    assert kept.keys() == learnt.keys()
    for name, weight in learnt.items():
        torch.testing.assert_close(kept[name], weight, atol=1e-9, rtol=1e-6, msg=name)


@pytest.mark.usefixtures("_quickly")
def test_an_adapter_of_a_whole_mert_lm_is_loaded_onto_its_folder(workplace, tmp_path):
    base = train(workplace, tmp_path / "base", recipe=MERT_LM)  # of tiny random parts, saved whole
    argv = ("--init_from", str(base), *LORA)
    first = train(workplace, tmp_path / "first", *argv, recipe=MERT_LM)
    assert not (first / "config.json").exists()
    load_model(first)
    train(workplace, tmp_path / "on", "--init_from", str(first), recipe=MERT_LM)
