"""Checkpoint folders: whole or not there, whatever happens while they are written."""

import errno
import logging

import pytest

from descant.training import checkpoints
from descant.training.checkpoints import CheckpointError, commit, find_problem, newest_valid_checkpoint, resume_point


def save(output_dir, step, text="weights"):
    staged = checkpoints.stage(output_dir, step)
    (staged / "model.safetensors").write_text(text)
    (staged / "inner").mkdir()
    (staged / "inner" / "shard.bin").write_bytes(b"\0" * 100)
    return commit(staged)


def names(output_dir):
    return [path.name for path in checkpoints.list_checkpoints(output_dir)]


def test_newest_checkpoint_is_the_highest_step_not_the_last_name(tmp_path):
    for step in (9, 10, 100):
        save(tmp_path, step)
    assert newest_valid_checkpoint(tmp_path).name == "checkpoint-100"


def test_uncommitted_checkpoint_is_not_seen(tmp_path):
    save(tmp_path, 1)
    (checkpoints.stage(tmp_path, 2) / "model.safetensors").write_text("half")
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
    checkpoints.rotate(tmp_path, 2, tmp_path / "checkpoint-4", best=tmp_path / "checkpoint-1")
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-4"]


def test_rotation_first_removes_steps_that_the_run_has_gone_back_behind(tmp_path):
    for step in (1, 2, 9):
        save(tmp_path, step)
    checkpoints.rotate(tmp_path, 2, tmp_path / "checkpoint-2")
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2"]


@pytest.mark.parametrize("keep", [None, 0])
def test_rotation_without_a_limit_removes_nothing(tmp_path, keep):
    for step in (1, 2, 3):
        save(tmp_path, step)
    checkpoints.rotate(tmp_path, keep, tmp_path / "checkpoint-3")
    assert len(names(tmp_path)) == 3


def test_save_killed_just_before_its_rename_is_completed(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints.os, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 1)
    monkeypatch.undo()
    assert names(tmp_path) == []
    checkpoints.finish_killed_saves(tmp_path)
    assert newest_valid_checkpoint(tmp_path).name == "checkpoint-1"


def test_leftovers_of_killed_saves_are_cleared(tmp_path):
    save(tmp_path, 1)
    (checkpoints.stage(tmp_path, 2) / "model.safetensors").write_text("half")
    checkpoints.finish_killed_saves(tmp_path)
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
    checkpoints.require_space(tmp_path / "new", 1)
    with pytest.raises(CheckpointError, match="MiB free, and one checkpoint takes about"):
        checkpoints.require_space(tmp_path, 2**60)


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
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    assert checkpoints.is_disk_full(error, tmp_path) == full
