"""Settings: recipe under YAML under command line, and clear refusals."""

import pytest

from descant.training import recipe
from descant.training.recipe import Recipe, Stage, parse_settings

RECIPE = Recipe("some_recipe", (Stage("short", 100),), settings={"learning_rate": 5e-5})


def test_defaults_are_the_reference_s():
    settings = parse_settings(RECIPE, ["--dataset", "rows.csv"])
    assert (settings.num_train_epochs, settings.per_device_train_batch_size, settings.seed) == (100, 32, 42)
    assert (settings.warmup_steps, settings.label_smoothing_factor) == (0.2, 0.1)
    assert settings.lr_scheduler_kwargs == {"min_lr": 1e-9}
    assert settings.output_dir == "outputs/some_recipe"


def test_command_line_stands_over_yaml_over_recipe(tmp_path):
    (tmp_path / "run.yaml").write_text("learning_rate: 3e-4\nseed: 7\n")
    settings = parse_settings(RECIPE, ["--dataset", "rows.csv"])
    assert settings.learning_rate == 5e-5
    settings = parse_settings(RECIPE, ["--dataset", "rows.csv", "--config", str(tmp_path / "run.yaml"), "--seed", "8"])
    assert (settings.learning_rate, settings.seed) == (3e-4, 8)


def test_demo_picks_the_corpus_and_a_small_model():
    settings = parse_settings(RECIPE, ["--demo", "--learning_rate", "0.01"])
    assert (settings.dataset, settings.model_size, settings.learning_rate) == ("demo", "small", 0.01)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--dataset FOLDER|FILE.csv|HUB_ID, or --demo"),
        (["--demo", "--learnin_rate", "1"], "unknown argument '--learnin_rate'; did you mean 'learning_rate'"),
        (["--demo", "--report_to", "tensorbored"], "--report_to tensorbored: unknown; choose trackio, tensorboard,"),
        (["--demo", "--config", "missing.yaml"], "missing.yaml: cannot be read"),
        (["--demo", "--bf16", "--fp16"], "bf16"),
        (["--demo", "--load_best_model_at_end", "--eval_strategy", "no"], "requires the save and eval strategy to"),
    ],
)
def test_refusals_name_the_fault_and_end_with_status_2(argv, message, capsys):
    with pytest.raises(SystemExit) as ended:
        parse_settings(RECIPE, argv)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_tracker_that_is_not_installed_is_refused_before_anything_else(capsys, monkeypatch):
    monkeypatch.setattr(recipe, "get_available_reporting_integrations", lambda: ["tensorboard"])
    assert parse_settings(RECIPE, ["--demo", "--report_to", "tensorboard"]).report_to == ["tensorboard"]
    with pytest.raises(SystemExit):
        parse_settings(RECIPE, ["--demo", "--report_to", "wandb"])
    assert "--report_to wandb: not installed; run `pip install wandb`" in capsys.readouterr().err


def test_an_unknown_yaml_key_is_refused(tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("learning_rat: 1\n")
    with pytest.raises(SystemExit):
        parse_settings(RECIPE, ["--demo", "--config", str(tmp_path / "run.yaml")])
    assert "unknown key 'learning_rat'; did you mean 'learning_rate'" in capsys.readouterr().err
