"""The output folder: one run, and no other, neither later nor at the same time."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from descant.training.recipe import Recipe, Stage, TrainingSettings, parse_settings
from descant.training.run_folder import check_run_folder, claim_run_folder, hold_run_folder, require_same_run

RECIPE = Recipe("some_recipe", (Stage("short", 100),))


def settings(folder: Path, *more: str) -> TrainingSettings:
    return parse_settings(RECIPE, ["--demo", "--output_dir", str(folder), *more])


def claim(folder: Path) -> None:
    claim_run_folder(str(folder), check_run_folder(RECIPE, settings(folder)))


def test_the_same_run_goes_on(tmp_path):
    claim(tmp_path)
    check_run_folder(RECIPE, settings(tmp_path, "--logging_steps", "3"))


def test_another_run_is_refused_by_the_setting_that_differs(tmp_path):
    claim(tmp_path)
    with pytest.raises(ValueError, match="learning_rate = 0.002, this one has 0.1: choose another --output_dir"):
        check_run_folder(RECIPE, settings(tmp_path, "--learning_rate", "0.1"))
    with pytest.raises(ValueError, match="recipe = 'some_recipe', this one has 'another'"):
        check_run_folder(Recipe("another", RECIPE.stages), settings(tmp_path))


def test_a_precision_that_accelerate_chooses_is_that_of_the_run(tmp_path, monkeypatch):
    claim(tmp_path)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(ValueError, match="mixed_precision = 'no', this one has 'bf16'"):
        check_run_folder(RECIPE, settings(tmp_path))


def test_what_an_earlier_version_did_not_write_down_is_told_and_counts_as_unchanged(tmp_path, caplog):
    claim(tmp_path)
    earlier = json.loads((tmp_path / "run.json").read_text())
    del earlier["mixed_precision"]
    (tmp_path / "run.json").write_text(json.dumps(earlier))
    check_run_folder(RECIPE, settings(tmp_path))
    require_same_run(str(tmp_path), {"training_data": "3 rows"})
    assert "does not tell its mixed_precision" in caplog.text and "does not tell its training_data" in caplog.text
    with pytest.raises(ValueError, match="holds a run with seed = 42"):
        check_run_folder(RECIPE, settings(tmp_path, "--seed", "1"))


def test_a_second_run_at_the_same_time_is_refused_with_status_2(tmp_path):
    code = f"""
from descant.training import Recipe, Stage, train
train(Recipe("some_recipe", (Stage("short", 100),)), ["--demo", "--output_dir", {str(tmp_path)!r}])
"""
    with hold_run_folder(settings(tmp_path)):
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert second.returncode == 2, second.stderr
    assert second.stderr.strip() == (
        f"some_recipe: --output_dir {tmp_path}: another run is writing there: wait until it ends, or choose another "
        "folder"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_killed_run_leaves_no_obstacle_even_where_its_data_workers_live_on(tmp_path):
    mine, (told, tell) = settings(tmp_path), os.pipe()
    run = os.fork()
    if run == 0:
        with hold_run_folder(mine):
            worker = os.fork() or os.getpid()
            if worker != os.getpid():
                os.write(tell, str(worker).encode())
            time.sleep(60)
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
    with hold_run_folder(settings(tmp_path)):
        assert "cannot be locked (No locks available)" in caplog.text
