"""A run's checkpoints survive kills, full disks and foreign settings, and a resumed run ends bit-equal."""

import errno
import json
import logging
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from forked_python import run_ranks
from kill_sweep import Sweep
from tiny_mert_lm import save_tiny_mert_lm
from tiny_run import build_model, build_trainer
from transformers import TrainerCallback

from descant.training import saving
from descant.training.saving import (
    CheckpointError,
    commit,
    find_problem,
    list_checkpoints,
    newest_valid_checkpoint,
    resume_point,
)

HERE = Path(__file__).parent
LORA = {"lora": True, "lora_rank": 2, "augment": False, "rows_per_clip": 2}


def train(output_dir, resume="auto", **settings):
    trainer = build_trainer(output_dir, **settings)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("finished")
    train(output_dir, save_total_limit=None)
    return output_dir


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_checkpoints_are_whole_and_nothing_else_is_left(finished):
    kept = list_checkpoints(finished)
    assert [path.name for path in kept] == ["checkpoint-3", "checkpoint-6", "checkpoint-9"]
    assert [find_problem(path) for path in kept] == [None] * 3
    files = json.loads((kept[0] / "manifest.json").read_text())["files"]
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} <= files.keys()


def test_recipe_killed_at_any_moment_resumes_bit_equal_and_into_its_stage(tmp_path):
    sweep = Sweep(tmp_path, recipe=True)
    assert sweep.survives("first", fatal=1)
    assert sweep.survives("middle", fatal=1 + sweep.points // 2)


def test_a_killed_stage_of_a_mert_lm_resumes_bit_equal_from_its_few_weights(tmp_path):
    sweep = Sweep(tmp_path, recipe=True, save_start=save_tiny_mert_lm, **LORA)
    for name, share in (("early", 0.3), ("late", 0.8)):
        assert sweep.survives(name, fatal=int(share * sweep.points))
    checkpoints = list(sweep.reference.glob("checkpoint-*"))
    assert checkpoints
    for folder in checkpoints:
        assert not (folder / "model.safetensors").exists()
        assert (folder / "adapter_model.safetensors").stat().st_size < 100_000


def test_damaged_newest_checkpoint_is_made_again_from_the_one_before(finished, run):
    (run / "checkpoint-9" / "optimizer.pt").write_bytes(b"half")
    train(run, save_total_limit=None)
    states = [torch.load(folder / "checkpoint-9" / "optimizer.pt")["state"] for folder in (finished, run)]
    assert all(torch.equal(states[0][key]["exp_avg"], states[1][key]["exp_avg"]) for key in states[0])


def test_resuming_a_finished_run_trains_no_further_step(run):
    assert train(run).state.global_step == 9
    assert list_checkpoints(run)[-1].name == "checkpoint-9"


def test_rotation_follows_the_new_checkpoint_and_spares_the_best(tmp_path):
    trainer = train(
        tmp_path, save_total_limit=2, eval_steps=3, metric_for_best_model="loss", greater_is_better=True,
        label_smoothing_factor=0.0, learning_rate=0.05,
    )  # fmt: skip
    best = trainer.state.best_model_checkpoint
    assert best == str(tmp_path / "checkpoint-3")
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-3", "checkpoint-9"]
    state = json.loads((tmp_path / "checkpoint-3" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == best


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("(os error 28) No space left on device")]
)
def test_failed_write_on_a_full_disk_keeps_the_older_checkpoint(tmp_path, monkeypatch, error):
    save = torch.save

    def save_until_full(value, path, *rest):
        if "checkpoint-6" in str(path):
            raise error
        save(value, path, *rest)

    monkeypatch.setattr(torch, "save", save_until_full)
    message = "the disk is full: checkpoint-6 was not written to .* and checkpoint-3 is the newest complete one"
    with pytest.raises(CheckpointError, match=message):
        train(tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / ".saving" / "checkpoint-6").exists()
    assert train(tmp_path).state.global_step == 9


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 40 MB, which a process of other privileges has mounted and shows."""
    mount = f"mount -t tmpfs -o size=40m none {tmp_path} && echo mounted && exec cat"
    if shutil.which("unshare") is None:
        pytest.skip("this machine has no program that mounts for itself alone")
    command = ["unshare", "-rm", "sh", "-c", mount]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        if holder.stdout.readline() != "mounted\n":
            pytest.skip("this machine lets no user mount a small file system")
        yield Path(f"/proc/{holder.pid}/root{tmp_path}")
        holder.stdin.close()


class Fill(TrainerCallback):
    """Leaves little room on a disk before a checkpoint is written."""

    def __init__(self, disk):
        self.disk = disk

    def on_save(self, args, state, control, **_):
        usage = os.statvfs(self.disk)
        (self.disk / "filler").write_bytes(b"x" * (usage.f_bavail * usage.f_frsize - 20_000))


def test_really_full_disk_keeps_the_older_checkpoint(small_disk):
    trainer = build_trainer(small_disk / "run")
    trainer.add_callback(Fill(small_disk))
    with pytest.raises(CheckpointError, match="the disk is full: checkpoint-6 was not written"):
        trainer.train(resume_from_checkpoint="auto")
    assert newest_valid_checkpoint(small_disk / "run").name == "checkpoint-3"


def test_lack_of_space_stops_the_run_before_its_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "SMALL_FILES_BYTES", 2**60)
    with pytest.raises(CheckpointError, match="one checkpoint takes about"):
        train(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_size_is_estimated_within_the_margin(finished):
    written = sum(path.stat().st_size for path in (finished / "checkpoint-3").iterdir())
    assert written <= saving.checkpoint_bytes(build_model()) <= written + saving.SMALL_FILES_BYTES


def test_checkpoint_of_another_model_size_is_refused_in_one_sentence(run):
    with pytest.raises(
        CheckpointError, match=r"holds a model of another size \(model.* is \(.*8.*\) there and"
    ) as said:
        build_trainer(run, model=build_model(d_model=16)).train(resume_from_checkpoint="auto")
    assert "\n" not in str(said.value)


def test_a_checkpoint_of_the_model_alone_is_not_gone_on_from(tmp_path):
    train(tmp_path, save_only_model=True, max_steps=3)
    assert train(tmp_path, save_only_model=True, max_steps=3).state.global_step == 3  # nothing is left to train
    with pytest.raises(CheckpointError, match=r"checkpoint-3 holds the model alone \(--save_only_model\)"):
        train(tmp_path)


def test_new_start_beside_old_checkpoints_is_refused_unless_they_may_go(run):
    with pytest.raises(CheckpointError, match="already holds checkpoint-9 of another run"):
        train(run, resume=None)
    train(run, resume="no", max_steps=3)
    assert [path.name for path in list_checkpoints(run)] == ["checkpoint-3"]


def test_processes_that_find_different_checkpoints_are_told_to_share_storage(monkeypatch):
    monkeypatch.setattr(saving, "gather_object", lambda names: [*names, "none"])
    with pytest.raises(CheckpointError, match=r"different checkpoints in out \(checkpoint-3, none\)"):
        saving.require_agreement(Path("out/checkpoint-3"), "out")


TWO_PROCESSES = """
import shutil, sys
from pathlib import Path
from tiny_run import build_trainer
for folder in sys.argv[1:]:
    trainer = build_trainer(folder, max_steps=4, save_steps=2, ddp_backend="gloo")
    trainer.train(resume_from_checkpoint="auto")
    trainer.accelerator.wait_for_everyone()
    if folder == sys.argv[1] and trainer.is_world_process_zero():
        shutil.copytree(folder, sys.argv[2])
        shutil.rmtree(Path(sys.argv[2], "checkpoint-4"))
    trainer.accelerator.wait_for_everyone()
"""


def test_two_processes_write_one_checkpoint_with_both_random_states_and_resume_bit_equal(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(HERE)!r})\n{TWO_PROCESSES}")
    run_ranks(2, script, tmp_path / "whole", tmp_path / "parted")
    folders = [tmp_path / name / "checkpoint-4" for name in ("whole", "parted")]
    assert saving.newest_valid_checkpoint(tmp_path / "parted") == folders[1]
    for name in ("model.safetensors", "rng_state_0.pth", "rng_state_1.pth"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name


def save(output_dir, step, text="weights"):
    staged = saving.stage(output_dir, step)
    (staged / "model.safetensors").write_text(text)
    (staged / "inner").mkdir()
    (staged / "inner" / "shard.bin").write_bytes(b"\0" * 100)
    return commit(staged)


def names(output_dir):
    return [path.name for path in saving.list_checkpoints(output_dir)]


def test_newest_checkpoint_is_the_highest_step_not_the_last_name(tmp_path):
    for step in (9, 10, 100):
        save(tmp_path, step)
    assert newest_valid_checkpoint(tmp_path).name == "checkpoint-100"


def test_uncommitted_checkpoint_is_not_seen(tmp_path):
    save(tmp_path, 1)
    (saving.stage(tmp_path, 2) / "model.safetensors").write_text("half")
    assert newest_valid_checkpoint(tmp_path).name == "checkpoint-1"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "model.safetensors").write_text("weightz"), "damaged"),
        (lambda folder: (folder / "model.safetensors").write_text("weigh"), "5 bytes instead of 7"),
        (lambda folder: (folder / "inner" / "shard.bin").unlink(), "inner/shard.bin is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "no manifest"),
        (lambda folder: (folder / "manifest.json").write_text('{"files": {"mod'), "cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "cannot be read"),
    ],
)
def test_damaged_checkpoint_is_passed_over_with_the_reason(tmp_path, caplog, damage, reason):
    save(tmp_path, 1)
    damage(save(tmp_path, 2))
    with caplog.at_level(logging.WARNING):
        assert newest_valid_checkpoint(tmp_path).name == "checkpoint-1"
    assert reason in caplog.text


def test_files_added_later_leave_a_checkpoint_valid(tmp_path):
    (save(tmp_path, 1) / "notes.txt").write_text("good one")
    assert newest_valid_checkpoint(tmp_path).name == "checkpoint-1"


def test_committing_a_step_again_replaces_it(tmp_path):
    save(tmp_path, 1, "old")
    final = save(tmp_path, 1, "new")
    assert (final / "model.safetensors").read_text() == "new"
    assert find_problem(final) is None
    assert not list((tmp_path / ".saving").iterdir())


def test_rotation_keeps_the_newest_and_the_best(tmp_path):
    for step in (1, 2, 3, 4):
        save(tmp_path, step)
    saving.rotate(tmp_path, 2, tmp_path / "checkpoint-4", best=tmp_path / "checkpoint-1")
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-4"]


def test_rotation_first_removes_steps_that_the_run_has_gone_back_behind(tmp_path):
    for step in (1, 2, 9):
        save(tmp_path, step)
    saving.rotate(tmp_path, 2, tmp_path / "checkpoint-2")
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2"]


@pytest.mark.parametrize("keep", [None, 0])
def test_rotation_without_a_limit_removes_nothing(tmp_path, keep):
    for step in (1, 2, 3):
        save(tmp_path, step)
    saving.rotate(tmp_path, keep, tmp_path / "checkpoint-3")
    assert len(names(tmp_path)) == 3


def test_save_killed_just_before_its_rename_is_completed(tmp_path, monkeypatch):
    monkeypatch.setattr(saving.os, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 1)
    monkeypatch.undo()
    assert names(tmp_path) == []
    saving.finish_killed_saves(tmp_path)
    assert newest_valid_checkpoint(tmp_path).name == "checkpoint-1"


def test_leftovers_of_killed_saves_are_cleared(tmp_path):
    save(tmp_path, 1)
    (saving.stage(tmp_path, 2) / "model.safetensors").write_text("half")
    saving.finish_killed_saves(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_auto_starts_anew_in_an_empty_or_missing_folder(tmp_path):
    assert resume_point("auto", tmp_path) is None
    assert resume_point("auto", tmp_path / "missing") is None
    assert resume_point("no", tmp_path) is None


def test_auto_refuses_to_start_over_where_no_checkpoint_is_valid(tmp_path):
    (save(tmp_path, 1) / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints.*model.safetensors is missing"):
        resume_point("auto", tmp_path)


def test_new_start_is_refused_beside_another_runs_checkpoints(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(CheckpointError, match="already holds checkpoint-1 of another run"):
        resume_point("no", tmp_path)


def test_named_checkpoint_is_taken_if_valid_and_refused_with_the_reason_otherwise(tmp_path):
    good, bad = save(tmp_path, 1), save(tmp_path, 2)
    (bad / "model.safetensors").unlink()
    assert resume_point(str(good), tmp_path) == good
    with pytest.raises(CheckpointError, match="checkpoint-2 cannot be resumed from: model.safetensors is missing"):
        resume_point(str(bad), tmp_path)
    with pytest.raises(CheckpointError, match="there is no such folder"):
        resume_point(str(tmp_path / "checkpoint-3"), tmp_path)


def test_lack_of_space_is_said_before_the_run(tmp_path):
    saving.require_space(tmp_path / "new", 1)
    with pytest.raises(CheckpointError, match="MiB free, and one checkpoint takes about"):
        saving.require_space(tmp_path, 2**60)


@pytest.mark.parametrize(
    ("error", "free", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 2**30, True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 2**30, True),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 2**30, True),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), 0, True),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), 2**30, False),
        (OSError(errno.EACCES, "Permission denied"), 0, False),
    ],
)
def test_full_disk_is_told_from_other_failures(tmp_path, monkeypatch, error, free, full):
    monkeypatch.setattr(saving.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    assert saving.is_disk_full(error, tmp_path) == full
