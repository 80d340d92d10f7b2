"""Checkpoints and model folders that appear whole or not at all, and the mixin by which a trainer saves so."""

import contextlib
import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object
from safetensors import safe_open
from transformers.trainer import TRAINER_STATE_NAME, TrainOutput
from transformers.utils import SAFE_WEIGHTS_NAME

from descant.files import flush, sha256_of, write_whole
from descant.program import BrokeOff, one_line

if TYPE_CHECKING:  # the class that AtomicSaving is mixed into
    from transformers import Trainer as Base
else:
    Base = object

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
# Beside the checkpoints, hence on their file system: the folder being written, and old ones on their way out.
STAGING = ".saving"
# Fewer free bytes than this, after a failed write, count as a full disk.
NOTHING_FREE = 2**20
# In a checkpoint beside the tensors: tokenizer, random states, log history.
SMALL_FILES_BYTES = 32 * 2**20
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


class CheckpointError(BrokeOff):
    """A checkpoint that cannot be written or gone on from; the message is one sentence for the user."""


def stage(output_dir: str | Path, step: int) -> Path:
    """Make an empty folder `.saving/checkpoint-<step>` to write the files of a checkpoint into."""
    staged = Path(output_dir) / STAGING / f"checkpoint-{step}"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    return staged


def commit(staged: Path) -> Path:
    """Write the manifest of the checkpoint in `staged`, flush it to the disk, and move it to where it is looked for.

    It replaces a folder of the same name: a damaged checkpoint, or the same step saved before.
    """
    final = staged.parent.parent / staged.name
    _write_manifest(staged)
    if final.exists():
        discard(final)
    os.rename(staged, final)
    flush(final.parent)
    return final


def discard(folder: Path) -> None:
    """Remove a checkpoint; a kill on the way leaves no half of it behind."""
    doomed = folder.parent / STAGING / f"old-{folder.name}"
    shutil.rmtree(doomed, ignore_errors=True)
    doomed.parent.mkdir(exist_ok=True)
    os.rename(folder, doomed)
    shutil.rmtree(doomed)


def find_problem(folder: str | Path) -> str | None:
    """Return why a checkpoint is not valid by its manifest, or None where every byte is as it was written."""
    folder = Path(folder)
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its {MANIFEST} cannot be read ({error})"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"]:
            return f"{name} has {path.stat().st_size} bytes instead of {expected['bytes']}"
        if sha256_of(path) != expected["sha256"]:
            return f"{name} is damaged (its sha256 differs from the manifest's)"
    return None


def list_checkpoints(output_dir: str | Path) -> list[Path]:
    """Return the folders `checkpoint-<step>`, valid or not, by rising step."""
    found = [path for path in Path(output_dir).glob("checkpoint-*") if _CHECKPOINT.fullmatch(path.name)]
    return sorted((path for path in found if path.is_dir()), key=_step)


def newest_valid_checkpoint(output_dir: str | Path) -> Path | None:
    """Return the checkpoint of the highest step whose files all match its manifest; damaged ones are logged."""
    for path in reversed(list_checkpoints(output_dir)):
        problem = find_problem(path)
        if problem is None:
            return path
        log.warning("%s is passed over: %s", path, problem)
    return None


def resume_point(resume: str | Path | bool | None, output_dir: str | Path) -> Path | None:
    """Return the checkpoint to go on from, or None for a new start.

    Args:
        resume: "auto" or True (the newest valid one, None where there is none yet), "no", False or None (start anew),
            or the path of a checkpoint. Before "no", `start_over` makes room.

    Raises:
        CheckpointError: the named checkpoint is not valid; no checkpoint of the folder is; or a new start would mix
            with another run's checkpoints.
    """
    present = list_checkpoints(output_dir)
    if resume is None or resume is False or resume == "no":
        if present:
            raise CheckpointError(
                f"{output_dir} already holds {present[-1].name} of another run: choose another output folder, "
                "go on from it with --resume auto, or remove it with --resume no"
            )
        return None
    if resume is not True and resume != "auto":
        return _require_valid(Path(resume))
    newest = newest_valid_checkpoint(output_dir)
    if newest is None and present:
        raise CheckpointError(
            f"none of the {len(present)} checkpoints in {output_dir} is valid "
            f"({present[-1].name}: {find_problem(present[-1])}): remove them to start anew"
        )
    return newest


def start_over(output_dir: str | Path) -> None:
    """Remove all checkpoints, each named in the log: later ones of an old run would be resumed from otherwise."""
    for path in list_checkpoints(output_dir):
        log.warning("removing %s of the run before", path)
        discard(path)


def rotate(output_dir: str | Path, keep: int | None, newest: Path, best: str | Path | None = None) -> None:
    """Remove old checkpoints until `keep` are left (None or 0: all stay), never `newest` nor `best`.

    Checkpoints of later steps than `newest` belong to a line that the run has left; they go first.
    """
    present = sorted(list_checkpoints(output_dir), key=lambda path: (_step(path) <= _step(newest), _step(path)))
    protected = {newest.resolve(), *([Path(best).resolve()] if best else [])}
    removable = [path for path in present if path.resolve() not in protected]
    surplus = max(0, len(present) - keep) if keep and keep > 0 else 0
    for path in removable[:surplus]:
        discard(path)


def finish_killed_saves(output_dir: str | Path) -> None:
    """Complete a save that was killed between its last byte and its rename, and clear all other leftovers."""
    staging = Path(output_dir) / STAGING
    for staged in staging.glob("checkpoint-*"):
        final = Path(output_dir) / staged.name
        if not final.exists() and find_problem(staged) is None:
            os.rename(staged, final)
            flush(final.parent)
    shutil.rmtree(staging, ignore_errors=True)


def require_space(output_dir: str | Path, needed: int) -> None:
    """Raise `CheckpointError` where the file system of `output_dir` has fewer than `needed` bytes free."""
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(output_dir).free
    if free < needed:
        raise CheckpointError(
            f"{output_dir} has {free / 2**20:.0f} MiB free, and one checkpoint takes about {needed / 2**20:.0f} MiB: "
            "free some space or choose another output folder"
        )


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Return whether writing into `folder` failed with `error` because no space (or quota) was left.

    safetensors reports it in words of its own, and torch.save only that its file ended at an unexpected position.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if "No space left on device" in str(error):
        return True
    return "inline_container" in str(error) and shutil.disk_usage(folder).free < NOTHING_FREE


@contextlib.contextmanager
def whole_model(folder: Path, writes: bool = True) -> Iterator[Path]:
    """Yield a folder to write a model into, whose files then appear in `folder` one by one, each whole, weights last.

    writes: whether this process is the one that moves them there.

    Raises:
        CheckpointError: something could not be written; what `folder` held before is still there.
    """
    staged = folder / STAGING / "model"
    try:
        if writes:
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir(parents=True)
        yield staged
        if writes:
            (staged / "README.md").unlink(missing_ok=True)  # a stub; the card is ours to write
            for path in sorted(staged.iterdir(), key=lambda path: (path.suffix == ".safetensors", path.name)):
                flush(path)
                path.replace(folder / path.name)
            flush(folder)
            shutil.rmtree(staged.parent, ignore_errors=True)
    except Exception as error:
        if not is_write_error(error):
            raise
        shutil.rmtree(staged, ignore_errors=True)
        raise CheckpointError(
            f"the model was not written to {folder} ({one_line(error)}): mend that and run the same command again, "
            "which goes on from the last checkpoint"
        ) from error


def is_write_error(error: BaseException) -> bool:
    """Return whether a file could not be written; safetensors and torch.save say so in words of their own."""
    if isinstance(error, OSError):
        return True
    return any(words in str(error) for words in ("I/O error", "No space left on device", "inline_container"))


def disk_full(staged: Path) -> CheckpointError:
    """Clear `staged`, and return the error that says what was not written and which checkpoint is still there."""
    shutil.rmtree(staged, ignore_errors=True)
    output_dir = staged.parent.parent
    older = list_checkpoints(output_dir)
    rest = f"{older[-1].name} is the newest complete one" if older else "there is no earlier one"
    return CheckpointError(
        f"the disk is full: {staged.name} was not written to {output_dir} and {rest}; "
        "free some space and run the same command again to go on from there"
    )


def _require_valid(path: Path) -> Path:
    problem = find_problem(path) if path.is_dir() else "there is no such folder"
    if problem:
        raise CheckpointError(f"{path} cannot be resumed from: {problem}")
    return path


def _write_manifest(folder: Path) -> None:
    manifest = folder / MANIFEST
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != manifest)
    files = {path.relative_to(folder).as_posix(): _flushed_record(path) for path in paths}
    write_whole(manifest, json.dumps({"version": 1, "files": files}, indent=1))
    for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        flush(inner)


def _flushed_record(path: Path) -> dict[str, int | str]:
    flush(path)
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _step(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


class AtomicSaving(Base):
    """Writes checkpoints whole; goes before `Trainer` among the bases.

    `train(resume_from_checkpoint="auto" | "no" | PATH)` goes on from the newest valid checkpoint, starts over (and
    removes those of the run before), or goes on from the one named.
    """

    _staged: Path | None = None

    def train(self, resume_from_checkpoint: str | bool | None = None, **options: Any) -> TrainOutput:
        """Train as `Trainer.train` does, from the checkpoint that `resume_point` gives.

        Raises:
            CheckpointError: there is nothing valid to resume from, the checkpoint is another model's, or the disk has
                no room for one checkpoint.
        """
        output_dir = self.args.output_dir
        if self.args.should_save:
            finish_killed_saves(output_dir)
            if resume_from_checkpoint == "no":
                start_over(output_dir)
            require_space(output_dir, checkpoint_bytes(self.model, self.args.save_only_model))
        self.accelerator.wait_for_everyone()
        point = resume_point(resume_from_checkpoint, output_dir)
        require_agreement(point, output_dir)
        if point is not None:
            require_same_shapes(point, self.model)
            if _step(point) < self.args.max_steps:
                require_optimizer(point)
            log.info("resuming from %s", point)
        output = super().train(resume_from_checkpoint=str(point) if point else None, **options)
        if self.args.should_save:
            self._rotate(Path(output_dir))
            finish_killed_saves(output_dir)
        return output

    def _run_epoch(self, **options: Any) -> None:
        # Trainer would train one more step where the last checkpoint of a finished run is resumed from.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(**options)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staged.parent) if self._staged else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        run_dir = Path(self._get_output_dir(trial))
        step = self.state.global_step
        if self.args.should_save:
            stage(run_dir, step)
        self.accelerator.wait_for_everyone()
        staged = run_dir / STAGING / f"checkpoint-{step}"
        # A process that fails alone ends, and its launcher ends the others; only rank files of all make it whole.
        with self._writing_into(staged):
            super()._save_checkpoint(model, trial)
            self._name_best(run_dir, staged)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                commit(staged)
        if self.args.should_save:
            self._rotate(run_dir)
        self.accelerator.wait_for_everyone()

    def _rotate(self, run_dir: Path) -> None:
        """Remove what `save_total_limit` leaves out; also after the last step, for a kill amid the last removal."""
        newest = run_dir / f"checkpoint-{self.state.global_step}"
        rotate(run_dir, self.args.save_total_limit, newest, self.state.best_model_checkpoint)

    @contextlib.contextmanager
    def _writing_into(self, staged: Path) -> Iterator[None]:
        """Let `Trainer` write below `staged`, where its own rotation finds nothing to remove."""
        self._staged = staged
        try:
            yield
        except Exception as error:
            if is_disk_full(error, staged.parent):
                raise disk_full(staged) from error
            if is_write_error(error):
                where = staged.parent.parent
                raise CheckpointError(f"{staged.name} was not written to {where}: {one_line(error)}") from error
            raise
        finally:
            self._staged = None

    def _name_best(self, run_dir: Path, staged: Path) -> None:
        # Trainer names the folder that it has just written to, which is about to move.
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(run_dir / staged.name)
            if self.args.should_save:
                self.state.save_to_json(str(staged / TRAINER_STATE_NAME))


def require_agreement(point: Path | None, output_dir: str) -> None:
    """Raise `CheckpointError` where the processes found different checkpoints to resume from."""
    points = set(gather_object([point.name if point else "none"]))
    if len(points) > 1:
        raise CheckpointError(
            f"the processes see different checkpoints in {output_dir} ({', '.join(sorted(points))}): "
            "put it on storage that all machines share, or pass --save_on_each_node"
        )


def checkpoint_bytes(model: torch.nn.Module, only_model: bool = False) -> int:
    """Return the size of a checkpoint in bytes: the weights, and AdamW's two moments of those that train."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    moments = 0 if only_model else sum(2 * p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return weights + moments + SMALL_FILES_BYTES


def require_optimizer(checkpoint: Path) -> None:
    """Raise `CheckpointError` where the optimizer's state is missing: training would go on with a new warm-up."""
    if not any(any(checkpoint.glob(pattern)) for pattern in ("optimizer*", "pytorch_optimizer*", "global_step*")):
        raise CheckpointError(
            f"{checkpoint} holds the model alone (--save_only_model), from which no run goes on: start a new one from "
            "it in another output folder by --init_from, or start over with --resume no"
        )


def require_same_shapes(checkpoint: Path, model: torch.nn.Module) -> None:
    """Raise `CheckpointError` where the checkpoint's weights have other shapes than the model's.

    Adapters and sharded weights are left to the loader's own check.
    """
    path = checkpoint / SAFE_WEIGHTS_NAME
    if not path.is_file():
        return
    here = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    with safe_open(path, framework="pt") as weights:
        for name in weights.keys() & here.keys():
            stored = tuple(weights.get_slice(name).get_shape())
            if stored != here[name]:
                raise CheckpointError(
                    f"{checkpoint} holds a model of another size ({name} is {stored} there and {here[name]} here): "
                    "choose another output folder, or the settings of that run"
                )
