"""The output folder: one run and no other, neither later nor at the same time; its progress, its log and its curve."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from forked_python import run_forked
from transformers import TrainerControl, TrainerState

from descant.program import BrokeOff
from descant.training import run_folder
from descant.training.recipe import Recipe, Stage
from descant.training.run import QuestionRun, read_job
from descant.training.run_folder import (
    ProgressBar,
    RunFolder,
    RunLog,
    TrainingTime,
    draw_curve,
    hold_run_folder,
)

RECIPE = Recipe("some_recipe", (Stage("short", 100),))


def identify(folder: Path, *more: str, recipe: Recipe = RECIPE) -> dict:
    return QuestionRun(read_job(recipe, ["--demo", "--output_dir", str(folder), *more])).identify()


def claim(folder: Path) -> None:
    RunFolder(folder).claim(identify(folder))


def test_the_same_run_goes_on(tmp_path):
    claim(tmp_path)
    RunFolder(tmp_path).check(identify(tmp_path, "--logging_steps", "3"))


def test_another_run_is_refused_by_the_setting_that_differs(tmp_path):
    claim(tmp_path)
    for argv, message in (
        (("--learning_rate", "0.1"), "learning_rate = 0.002, this one has 0.1: choose another --output_dir"),
        (("--augment", "False"), "augment = True, this one has False"),
        (("--optim", "sgd"), "optim = 'adamw.*', this one has 'sgd'"),
    ):
        with pytest.raises(ValueError, match=message):
            RunFolder(tmp_path).check(identify(tmp_path, *argv))
    with pytest.raises(ValueError, match="recipe = 'some_recipe', this one has 'another'"):
        RunFolder(tmp_path).check(identify(tmp_path, recipe=Recipe("another", RECIPE.stages)))


def test_a_precision_that_accelerate_chooses_is_that_of_the_run(tmp_path, monkeypatch):
    claim(tmp_path)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(ValueError, match="mixed_precision = 'no', this one has 'bf16'"):
        RunFolder(tmp_path).check(identify(tmp_path))


def test_what_an_earlier_version_did_not_write_down_is_told_and_counts_as_unchanged(tmp_path, caplog):
    claim(tmp_path)
    earlier = json.loads((tmp_path / "run.json").read_text())
    del earlier["mixed_precision"]
    (tmp_path / "run.json").write_text(json.dumps(earlier | {"an_option_of_old": 3}))
    RunFolder(tmp_path).check(identify(tmp_path))
    RunFolder(tmp_path).check({"training_data": "3 rows"})
    assert "does not record its mixed_precision" in caplog.text and "does not record its training_data" in caplog.text
    with pytest.raises(ValueError, match="holds a run with seed = 42"):
        RunFolder(tmp_path).check(identify(tmp_path, "--seed", "1"))


@pytest.mark.parametrize("text", ["[1]", '{"half', "null", "[" * 100_000, "\xff", '{"stages": 5}', '{"recipe": [1]}'])
def test_a_damaged_run_file_is_named(tmp_path, text):
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"{tmp_path}/run.json.* or choose another --output_dir"):
        RunFolder(tmp_path).check({})


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_tells_of_no_run(tmp_path, make):
    make(tmp_path / "run.json")
    with pytest.raises(ValueError, match=r"run.json is no regular file; or choose another --output_dir"):
        RunFolder(tmp_path).check({})


@pytest.mark.parametrize("name", ["checkpoint-3/model.safetensors", "model.safetensors"])
def test_a_model_that_no_run_file_tells_of_is_left_alone(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"holds .*, and no run.json that says of which run: .* --resume no"):
        RunFolder(tmp_path).check({})
    RunFolder(tmp_path).check({}, starts_over=True)


def test_what_was_removed_while_a_run_was_at_work_is_written_again(tmp_path, caplog):
    with hold_run_folder(str(tmp_path / "run")) as folder:
        folder.claim({"recipe": "one"})
        shutil.rmtree(folder.path)
        folder.keep()
        assert json.loads(folder.run_file.read_text()) == {"recipe": "one"}
        assert "run.json was removed while this run was at work: it is written again" in caplog.text
        caplog.clear()
        folder.keep()
        assert not caplog.text
        assert lock_elsewhere(folder.path) == "busy"
    assert lock_elsewhere(tmp_path / "run") == "free"


def lock_elsewhere(folder: Path) -> str:
    """Whether another process gets the folder."""
    code = f"""
from pathlib import Path
from descant.files import hold_lock
try:
    with hold_lock(Path({str(folder / ".lock")!r}), "busy", inherited=False):
        print("free")
except ValueError as error:
    print(error)
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300).stdout.strip()


def test_a_folder_that_another_run_took_meanwhile_is_left_to_it(tmp_path):
    with hold_run_folder(str(tmp_path)) as folder:
        folder.claim({"recipe": "one"})
        folder.run_file.write_text('{"recipe": "other"}')
        with pytest.raises(BrokeOff, match="describes another run now"):
            folder.keep()
        assert "other" in folder.run_file.read_text()


def test_another_process_of_the_run_writes_nothing(tmp_path):
    with hold_run_folder(str(tmp_path / "run"), writes=False) as folder:
        folder.claim({"recipe": "one"})
        folder.keep()
    assert not (tmp_path / "run").exists()


def test_halves_that_a_kill_left_are_cleared_away_and_nothing_else(tmp_path):
    half = tmp_path / f".{'0' * 32}.partial.loss.png"
    others = [tmp_path / name for name in ("loss.png", ".partial.mine", f"{'0' * 32}.partial.x")]
    for path in (half, *others):
        path.touch()
    with hold_run_folder(str(tmp_path)):
        assert not half.exists() and all(path.exists() for path in others)


@pytest.mark.parametrize("below", ["file", "file/run"])
def test_a_folder_that_cannot_be_made_is_refused_by_name(tmp_path, below):
    (tmp_path / "file").touch()
    refused = pytest.raises(ValueError, match=f"{tmp_path}/{below}: nothing can be written here .*(directory|exists)")
    with refused, hold_run_folder(str(tmp_path / below)):
        pass


def test_a_second_run_at_the_same_time_is_refused_with_status_2(tmp_path):
    code = f"""
from descant.training import Recipe, Stage, train
train(Recipe("some_recipe", (Stage("short", 100),)), ["--demo", "--output_dir", {str(tmp_path)!r}])
"""
    with hold_run_folder(str(tmp_path)):
        second = run_forked("-c", code)
    assert second.returncode == 2, second.stderr
    assert second.stderr.strip() == (
        f"some_recipe: --output_dir {tmp_path}: another run is writing there: wait until it ends, or choose another "
        "folder"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_killed_run_leaves_no_obstacle_even_where_its_data_workers_live_on(tmp_path):
    mine, (told, tell) = str(tmp_path), os.pipe()
    run = os.fork()
    if run == 0:
        with hold_run_folder(mine):
            worker = os.fork() or os.getpid()
            if worker != os.getpid():
                os.write(tell, str(worker).encode())
            time.sleep(600)
        os._exit(0)
    worker = int(os.read(told, 20))
    try:
        with pytest.raises(ValueError, match="another run is writing there"), hold_run_folder(mine):
            pass
        os.kill(run, signal.SIGKILL)
        os.waitpid(run, 0)
        with hold_run_folder(mine):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, caplog):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with hold_run_folder(str(tmp_path)):
        assert "cannot be locked (No locks available)" in caplog.text


HISTORY = [{"loss": 2.5, "step": 1}, {"loss": 2.0, "step": 2}, {"eval_loss": 1.5, "step": 2}]


def place() -> tuple[str, float]:
    return "long", 2.25


def arguments(**changes) -> SimpleNamespace:
    values = {
        "disable_tqdm": False, "per_device_train_batch_size": 8, "world_size": 1, "gradient_accumulation_steps": 1,
    }  # fmt: skip
    return SimpleNamespace(**{**values, **changes})


def test_the_hours_of_a_run_are_those_of_all_its_starts_as_far_as_they_led_to_its_checkpoint(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(run_folder.time, "monotonic", lambda: now[0])

    def start(step: int) -> TrainingTime:
        clock = TrainingTime(tmp_path)
        clock.on_train_begin(arguments(), TrainerState(global_step=step), TrainerControl())
        return clock

    def save(clock: TrainingTime, step: int, after_s: float) -> None:
        now[0] += after_s
        clock.on_save(arguments(), TrainerState(global_step=step), TrainerControl())

    first = start(0)
    save(first, 4, 50.0)
    now[0] += 1000.0  # a kill loses what comes after
    second = start(4)
    save(second, 8, 25.0)
    assert [start(step).before for step in (0, 4, 8)] == [0.0, 50.0, 75.0]
    for text in ("[1]", '{"half', '{"8": "x"}'):
        (tmp_path / ".training_time.json").write_text(text)
        assert start(8).before == 0.0


def test_the_bar_shows_stage_epoch_losses_and_learning_rate(capsys):
    bar, args, state = ProgressBar(place), arguments(), TrainerState(global_step=4, max_steps=10)
    bar.on_train_begin(args, state, TrainerControl())
    state.global_step = 6
    bar.on_step_end(args, state, TrainerControl())
    bar.on_log(args, state, TrainerControl(), logs={"loss": 2.34567, "learning_rate": 1e-4})
    bar.on_log(args, state, TrainerControl(), logs={"eval_loss": 1.5})
    assert (bar.bar.n, bar.bar.total) == (6, 10)  # a resumed run counts on
    bar.on_train_end(args, state, TrainerControl())
    shown = capsys.readouterr().err
    for part in ("long epoch 2.2", "loss=2.346", "lr=1.0e-04", "val=1.500", "rows/s="):
        assert part in shown


@pytest.mark.parametrize(("quiet", "first"), [(True, True), (False, False)])
def test_no_bar_where_it_is_not_wanted_or_another_process_shows_it(capsys, quiet, first):
    bar, args = ProgressBar(place), arguments(disable_tqdm=quiet)
    state = TrainerState(max_steps=10, is_world_process_zero=first)
    bar.on_train_begin(args, state, TrainerControl())
    bar.on_step_end(args, state, TrainerControl())
    bar.on_log(args, state, TrainerControl(), logs={"loss": 1.0, "learning_rate": 1.0})
    bar.on_train_end(args, state, TrainerControl())
    assert capsys.readouterr().err == ""


def test_the_log_holds_the_whole_history_once(tmp_path):
    log, args = RunLog("cross entropy"), arguments(output_dir=str(tmp_path / "run"))
    log.on_evaluate(args, TrainerState(log_history=HISTORY[:1]), TrainerControl())
    log.on_train_end(args, TrainerState(log_history=HISTORY), TrainerControl())
    lines = (tmp_path / "run" / "training_log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == HISTORY
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"training_log.jsonl", "loss.png"}


def test_another_process_writes_nothing(tmp_path):
    state = TrainerState(log_history=HISTORY, is_world_process_zero=False)
    RunLog("cross entropy").on_train_end(arguments(output_dir=str(tmp_path / "run")), state, TrainerControl())
    assert not (tmp_path / "run").exists()


def test_the_curve_is_a_picture_that_grows_with_what_is_drawn(tmp_path):
    sizes = []
    for number, history in enumerate(([], HISTORY)):
        draw_curve(history, tmp_path / f"{number}.png", "cross entropy")
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")
        sizes.append((tmp_path / f"{number}.png").stat().st_size)
    assert sizes[1] > sizes[0]
