"""Mixin for a `transformers.Trainer` whose checkpoints appear whole or not at all."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from safetensors import safe_open
from transformers.trainer import TRAINER_STATE_NAME, TrainOutput
from transformers.utils import SAFE_WEIGHTS_NAME

from descant.training import checkpoints
from descant.training.checkpoints import CheckpointError

log = logging.getLogger(__name__)

# Beside the tensors: tokenizer, random states, log history.
SMALL_FILES_BYTES = 32 * 2**20


class AtomicSaving:
    """Goes before `Trainer` among the bases: `class DescantTrainer(AtomicSaving, Seq2SeqTrainer)`.

    `train(resume_from_checkpoint="auto" | "no" | PATH)` goes on from the newest valid checkpoint, starts over (and
    removes those of the run before), or goes on from the one named.
    """

    _staged: Path | None = None

    def train(self, resume_from_checkpoint: str | bool | None = None, **options: Any) -> TrainOutput:
        """As `Trainer.train`.

        Raises:
            CheckpointError: there is nothing valid to resume from, the checkpoint is another model's, or the disk has
                no room for one checkpoint.
        """
        output_dir = self.args.output_dir
        if self.args.should_save:
            checkpoints.finish_killed_saves(output_dir)
            if resume_from_checkpoint == "no":
                checkpoints.start_over(output_dir)
            checkpoints.require_space(output_dir, checkpoint_bytes(self.model, self.args.save_only_model))
        self.accelerator.wait_for_everyone()
        point = checkpoints.resume_point(resume_from_checkpoint, output_dir)
        require_agreement(point, output_dir)
        if point is not None:
            require_same_shapes(point, self.model)
            log.info("resuming from %s", point)
        output = super().train(resume_from_checkpoint=str(point) if point else None, **options)
        if self.args.should_save:
            self._rotate(Path(output_dir))
            checkpoints.finish_killed_saves(output_dir)
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
            checkpoints.stage(run_dir, step)
        self.accelerator.wait_for_everyone()
        staged = run_dir / checkpoints.STAGING / f"checkpoint-{step}"
        # A process that fails alone ends, and its launcher ends the others; only rank files of all make it whole.
        with self._writing_into(staged):
            super()._save_checkpoint(model, trial)
            self._name_best(run_dir, staged)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                checkpoints.commit(staged)
        if self.args.should_save:
            self._rotate(run_dir)
        self.accelerator.wait_for_everyone()

    def _rotate(self, run_dir: Path) -> None:
        """Removes what `save_total_limit` leaves out; also after the last step, for a kill amid the last removal."""
        newest = run_dir / f"checkpoint-{self.state.global_step}"
        checkpoints.rotate(run_dir, self.args.save_total_limit, newest, self.state.best_model_checkpoint)

    @contextlib.contextmanager
    def _writing_into(self, staged: Path) -> Iterator[None]:
        """Lets `Trainer` write below `staged`, where its own rotation finds nothing to remove."""
        self._staged = staged
        try:
            yield
        except Exception as error:
            if checkpoints.is_disk_full(error, staged.parent):
                raise checkpoints.disk_full(staged) from error
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
    """Raises `CheckpointError` where the processes found different checkpoints to resume from."""
    points = set(gather_object([point.name if point else "none"]))
    if len(points) > 1:
        raise CheckpointError(
            f"the processes see different checkpoints in {output_dir} ({', '.join(sorted(points))}): "
            "put it on storage that all machines share, or pass --save_on_each_node"
        )


def checkpoint_bytes(model: torch.nn.Module, only_model: bool = False) -> int:
    """The size of a checkpoint: the weights, and AdamW's two moments of those that train."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    moments = 0 if only_model else sum(2 * p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return weights + moments + SMALL_FILES_BYTES


def require_same_shapes(checkpoint: Path, model: torch.nn.Module) -> None:
    """Raises `CheckpointError` where the checkpoint's weights have other shapes than the model's.

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
