"""Settings: recipe under YAML under command line, one sentence for each refusal, and no option that does nothing."""

import os
from pathlib import Path

import pytest

from descant.models import box
from descant.subgenre.recipe import SubgenreRecipe
from descant.subgenre.run import read_job as read_subgenre_job
from descant.training import Recipe, Stage, settings, start_mert_lm
from descant.training.recipe import DEMO_SETTINGS, LPMusicCapsOptions, MertLMOptions, ModelOptions
from descant.training.run import read_job
from descant.training.settings import Job, options_for

RECIPE = Recipe("some_recipe", (Stage("short", 100),), settings={"learning_rate": 5e-5})
MERT_LM = Recipe("some_mert_lm", (Stage("short", 100),), start=lambda: start_mert_lm)


def test_defaults_are_the_reference_s():
    chosen = read_job(RECIPE, ["--dataset", "rows.csv"]).settings
    assert (chosen.num_train_epochs, chosen.per_device_train_batch_size, chosen.seed) == (100, 32, 42)
    assert (chosen.warmup_steps, chosen.label_smoothing_factor) == (0.2, 0.1)
    assert chosen.lr_scheduler_kwargs == {"min_lr": 1e-9}
    assert chosen.output_dir == "outputs/some_recipe"


def write_yaml(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_command_line_stands_over_yaml_over_recipe(tmp_path):
    assert read_job(RECIPE, ["--dataset", "rows.csv"]).settings.learning_rate == 5e-5
    config = write_yaml(tmp_path, "learning_rate: 3e-4\nseed: 7\n")
    job = read_job(RECIPE, ["--dataset", "rows.csv", "--config", config, "--seed", "8"])
    assert (job.settings.learning_rate, job.settings.seed) == (3e-4, 8)
    assert job.given == {"dataset", "learning_rate", "seed"}


def test_demo_picks_the_corpus_and_a_small_model():
    job = read_job(RECIPE, ["--demo", "--learning_rate", "0.01"])
    assert (job.settings.dataset, job.settings.learning_rate) == ("demo", 0.01)
    assert job.options == LPMusicCapsOptions(**LPMusicCapsOptions.shared_demo)
    assert read_job(RECIPE, ["--dataset", "x"]).options == LPMusicCapsOptions()
    assert read_job(MERT_LM, ["--demo"]).options == MertLMOptions()


def test_a_demo_starts_from_the_box_with_options_of_its_own_or_as_it_is_told(tmp_path):
    recipe = Recipe("some_recipe", (Stage("short", 1),), box_start=lambda: start_mert_lm)
    for argv in (["--demo"], ["--demo", "--init_from", "box"], ["--config", write_yaml(tmp_path, "demo: true")]):
        job = read_job(recipe, argv)
        assert job.settings.init_from == str(box.FOLDER)
        assert isinstance(job.options, MertLMOptions) and job.options.projector_branch > 0
    config = write_yaml(tmp_path, "demo: true\ninit_from: none\naugment: no")
    for argv in (["--demo", "--init_from", "none"], ["--config", config]):
        job = read_job(recipe, argv)
        assert job.settings.init_from is None and isinstance(job.options, LPMusicCapsOptions)
        assert job.settings.num_train_epochs == DEMO_SETTINGS["num_train_epochs"]
    assert isinstance(read_job(recipe, ["--demo", "--init_from", "other"]).options, LPMusicCapsOptions)
    own = read_job(recipe, ["--dataset", "x.csv", "--init_from", "box", "--new_words", "5"])
    assert own.options == MertLMOptions(new_words=5) and own.settings.num_train_epochs == 100
    assert read_job(recipe, ["--dataset", "x.csv"]).settings.init_from is None


def test_every_kind_of_value_is_read_from_yaml_as_the_command_line_reads_it(tmp_path):
    config = write_yaml(tmp_path, """
dataset: songs.csv        # text
resume: no                # a word of YAML's for false
eval_strategy: no
bf16: off
augment: yes
warmup_steps: 0.5
max_clips: 12
lr_scheduler_kwargs: {min_lr: 1.0e-6, nested: [1, 2]}
report_to: [none]
audio_dir:
run_name: "2024-01-01"
report: false
""")
    job = read_job(RECIPE, ["--config", config])
    chosen = job.settings
    assert (chosen.dataset, chosen.resume, chosen.eval_strategy, chosen.bf16) == ("songs.csv", "no", "no", False)
    assert (chosen.warmup_steps, chosen.max_clips, chosen.audio_dir, chosen.report) == (0.5, 12, None, False)
    assert chosen.lr_scheduler_kwargs == {"min_lr": 1e-6, "nested": [1, 2]} and chosen.report_to == []
    assert chosen.run_name == "2024-01-01" and job.options.augment is True


@pytest.mark.parametrize("text", ["demo: true", "demo: yes"])
def test_the_demo_may_be_asked_for_in_yaml(tmp_path, text):
    assert read_job(RECIPE, ["--config", write_yaml(tmp_path, text)]).settings.dataset == "demo"


def refusal(capsys, recipe: Recipe, argv: list[str], read=read_job) -> str:
    """The one line with which the program ends."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        read(recipe, argv)
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.endswith("\n") and shown.err.count("\n") == 1
    return shown.err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "some_recipe.py: no data given: pass --dataset FOLDER|FILE.csv|HUB_ID, or --demo"),
        (["--demo", "--learnin_rate", "1"], "unknown argument '--learnin_rate'; did you mean 'learning_rate'"),
        (["--demo", "--learning-rate", "1"], "unknown argument '--learning-rate'; did you mean 'learning_rate'"),
        (["--demo", "--learnin_rate=1"], "unknown argument '--learnin_rate'; did you mean 'learning_rate'"),
        (["--demo", "--report_to", "tensorbored"], "--report_to tensorbored: unknown; choose trackio, tensorboard,"),
        (["--demo", "--bf16", "--fp16"], "bf16"),
        (["--demo", "--load_best_model_at_end", "--eval_strategy", "no"], "requires the save and eval strategy to"),
        (["--demo", "--config"], "argument --config: expected one argument"),
        (["--demo", "--seed", "1.5"], "argument --seed: invalid int value: '1.5'"),
        (["--demo", "--max_clips", "-1"], "argument --max_clips: -1 is less than 0"),
        (["--demo", "--rows_per_clip", "0"], "argument --rows_per_clip: 0 is less than 1"),
        (["--demo", "--per_device_train_batch_size", "0"], "argument --per_device_train_batch_size: 0 is less than 1"),
        (["--demo", "--audio_warm_up_epochs", "-2"], "argument --audio_warm_up_epochs: -2 is less than 0"),
        (["--demo", "--learning_rate", "nan"], "argument --learning_rate: nan is no finite number"),
        (["--demo", "--num_train_epochs", "inf"], "argument --num_train_epochs: inf is no finite number"),
        (["--demo", "--save_epochs", "0"], "--save_epochs: 0 is not above 0; for none, --save_strategy no"),
        (["--demo", "--eval_epochs", "-1"], "--eval_epochs: -1 is not above 0; for none, --eval_strategy no"),
        (["--demo", "--save_steps", "-3"], "argument --save_steps: -3 is less than 0"),
        (["--demo", "--ignore_data_skip"], "--ignore_data_skip: would train on the first rows again"),
        (["--demo", "--dataloader_drop_last"], "--dataloader_drop_last: would train on the first rows in place of"),
        (["--demo", "--auto_find_batch_size"], "--auto_find_batch_size: would end a run early"),
        (["--demo", "--resume_from_checkpoint", "x"], "--resume_from_checkpoint: does nothing here, since --resume"),
        (["--demo", "--hub_revision", "x"], "--hub_revision: does nothing, since the finished model is pushed in one"),
        (["--demo", "--prediction_loss_only"], "--prediction_loss_only: does nothing, since validation is"),
        (["--demo", "--data_seed", "5"], "--data_seed: does nothing, since --seed alone decides the order of rows"),
        (["--demo", "--lora_rank", "4"], "--lora_rank: does nothing without --lora; leave it out"),
        (["--demo", "--pooling", "mean"], "'--pooling': an option of MertLM models, which this recipe does not train"),
        (["--dataset", "x", "--init_from", "y", "--model_size", "small"],
         "--model_size: shapes a new model, and --init_from gives one; leave it out"),
        (["--demo", "--tokenizer", "x"], "--tokenizer: does nothing for a new model of --model_size small"),
        (["--dataset", "x", "--audio_warm_up_epochs", "3"], "--audio_warm_up_epochs: does nothing for a new model of"),
    ],
)  # fmt: skip
def test_refusals_are_one_sentence_that_names_the_fault(argv, message, capsys):
    assert message in refusal(capsys, RECIPE, argv)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model_size", "small"], "'--model_size': an option of LPMusicCaps models"),
        (["--augment"], "'--augment': an option of LPMusicCaps models"),
        (["--pooling", "mean", "--pool_stride", "3"], "--pool_stride: does nothing with --pooling mean"),
        (["--init_from", "x", "--layer_mix", "last"], "--layer_mix: shapes a new model, and --init_from gives one"),
        (["--tokens_per_state", "0"], "argument --tokens_per_state: 0 is less than 1"),
    ],
)
def test_a_mert_lm_recipe_refuses_what_does_nothing_for_it(argv, message, capsys):
    assert message in refusal(capsys, MERT_LM, ["--demo", *argv])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--pooling", "mean"], "an option of MertLM models"),
        (["--captioner_beams", "2"], "unknown argument '--captioner_beams'"),
        (["--text_encoder", "x", "--vocabulary", "9"], "--vocabulary: shapes a new text encoder, and --text_encoder"),
        (["--modality_dropout", "0.1"], "--modality_dropout: does nothing with --fusion late"),
        (["--init_from", "x", "--hidden_size", "8"], "--hidden_size: shapes a new model"),
        (["--seeds", "0"], "argument --seeds: 0 is less than 1"),
    ],
)
def test_the_subgenre_recipe_refuses_what_does_nothing_for_it(argv, message, capsys):
    recipe = SubgenreRecipe("subgenre", ("What is the genre?",))
    assert message in refusal(capsys, recipe, ["--demo", *argv], read_subgenre_job)


def test_the_options_of_one_kind_of_model_do_nothing_for_another():
    job: Job = read_job(RECIPE, ["--demo", "--init_from", "a_mert_lm"])
    assert options_for(job, "lp_music_caps") is job.options
    assert options_for(job, "mert_lm") == ModelOptions()  # the demo's shares and augmentation are another model's
    given = read_job(RECIPE, ["--demo", "--init_from", "a_mert_lm", "--audio_lr_scale", "0.5"])
    with pytest.raises(ValueError, match="--audio_lr_scale: does nothing for the mert_lm model of --init_from a_mert"):
        options_for(given, "mert_lm")


DEEP = "seed: " + 50_000 * "[" + 50_000 * "]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1", "unknown key 'learning_rat'; did you mean 'learning_rate'"),
        ("layer_mix: last", "unknown key 'layer_mix': an option of MertLM models"),
        ("5: 3", "unknown key '5'"),
        ("null: 3", "unknown key 'null'"),
        ("? [1, 2]\n: 3", "one begins with a list or a mapping"),
        ("output_dir: 5", "output_dir: expected text, found '5', which is int to YAML: put it in quotes"),
        ("run_name: 2020-01-01", "run_name: expected text, found '2020-01-01', which is timestamp to YAML"),
        ("seed: 2020-99-99", "argument --seed: invalid int value: '2020-99-99'"),
        ("seed: 2020-01-01", "argument --seed: invalid int value: '2020-01-01'"),
        ("2020-99-99", "expected `setting: value` lines"),
        ("2020-99-99: 1", "unknown key '2020-99-99'"),
        (DEEP, "nested too deeply"),
        ("lr_scheduler_kwargs: " + 50_000 * "{a: " + 50_000 * "}", "nested too deeply"),
        ("learning_rate: [1, 2]", "learning_rate: expected one value, found a list"),
        ("learning_rate: {a: 1}", "learning_rate: expected one value, found a mapping"),
        ("learning_rate: .nan", "argument --learning_rate: invalid float value: '.nan'"),
        ("per_device_train_batch_size: 1.5", "argument --per_device_train_batch_size: invalid int value: '1.5'"),
        ("per_device_train_batch_size: -1", "argument --per_device_train_batch_size: -1 is less than 1"),
        ("seed:", "seed: expected one value, found nothing"),
        ("seed: ~", "seed: expected one value, found nothing"),
        ("bf16: perhaps", "argument --bf16"),
        ("model_size: huge", "argument --model_size: invalid choice: 'huge'"),
        ("report_to: [1, 2]", "report_to: expected a list of words"),
        ("[1, 2]", "expected `setting: value` lines"),
        ("seed", "expected `setting: value` lines"),
        ("seed: [1", "cannot be read as YAML"),
        ("a: &a [1]\nseed: *a", "has an alias"),
        ("seed: !!python/object/apply:os.getpid []", "seed: expected one value"),
        ("lr_scheduler_kwargs: {a: !!python/object/apply:os.getpid []}", "lr_scheduler_kwargs: cannot be read"),
        ("lr_scheduler_kwargs: !!python/object:os.x {}", "lr_scheduler_kwargs: expected one value"),
        ("seed: 1\n---\nseed: 2", "cannot be read as YAML"),
        (b"\xff\xfe\x00", "cannot be read as YAML"),
        (b"seed: \x1b[2J", "cannot be read as YAML"),
        ("use_cpu: true\nbf16: true\nfp16: true", "At most one of fp16 and bf16"),
        ("x" * (2**20 + 1), "has over 1048576 bytes"),
    ],
)  # fmt: skip
def test_a_yaml_file_of_any_shape_is_refused_by_its_name(tmp_path, capsys, text, message):
    config = write_yaml(tmp_path, text)
    shown = refusal(capsys, RECIPE, ["--demo", "--config", config])
    assert message in shown and (config in shown or "is less than" in shown)
    assert not set(shown) & {"\x1b", "\x00"}


def test_what_is_no_file_is_refused_and_not_read(tmp_path, capsys):
    os.mkfifo(tmp_path / "fifo")
    for path, message in (
        (tmp_path / "none.yaml", "cannot be read: there is no such file"), (tmp_path, "is a folder or a device"),
        (tmp_path / "fifo", "is a folder or a device"), (Path("/dev/zero"), "is a folder or a device"),
    ):  # fmt: skip
        assert f"{path}: {message}" in refusal(capsys, RECIPE, ["--demo", "--config", str(path)])


def test_a_tracker_that_is_not_installed_is_refused_before_anything_else(capsys, monkeypatch):
    monkeypatch.setattr(settings, "get_available_reporting_integrations", lambda: ["tensorboard"])
    assert read_job(RECIPE, ["--demo", "--report_to", "tensorboard"]).settings.report_to == ["tensorboard"]
    shown = refusal(capsys, RECIPE, ["--demo", "--report_to", "wandb"])
    assert "--report_to wandb: not installed; run `pip install wandb`" in shown


def test_a_recipe_that_sets_what_nobody_has_is_a_mistake():
    with pytest.raises(ValueError, match="the recipe odd sets pooling, which is no setting of its model or its run"):
        read_job(Recipe("odd", (Stage("short", 1),), settings={"pooling": "mean"}), ["--demo"])
