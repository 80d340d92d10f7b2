"""Epochs and rows as optimizer steps."""

import math

from descant.training.arguments import TrainingSettings
from descant.training.curriculum import CurriculumSampler


def rows_per_step(args: TrainingSettings) -> int:
    """The effective batch: rows of all processes and accumulated batches in one optimizer step."""
    return args.per_device_train_batch_size * max(args.world_size, 1) * args.gradient_accumulation_steps


def set_steps(args: TrainingSettings, curriculum: CurriculumSampler) -> None:
    """Turn epochs into steps: the run's length, and how often it is saved and validated, if at all.

    Raises:
        ValueError: the best model is asked for, and checkpoints would fall between validations.
    """
    batches = -(-len(curriculum) // (args.per_device_train_batch_size * max(args.world_size, 1)))
    whole = -(-batches // args.gradient_accumulation_steps)
    args.max_steps = whole if args.max_steps <= 0 else min(args.max_steps, whole)
    an_epoch = whole / curriculum.epochs
    args.save_steps = _as_steps(args.save_steps, args.max_steps) or max(1, round(args.save_epochs * an_epoch))
    args.eval_steps = _as_steps(args.eval_steps, args.max_steps) or max(1, round(args.eval_epochs * an_epoch))
    # An epoch is one of the curriculum's, of which Trainer knows nothing.
    args.save_strategy = "steps" if args.save_strategy == "epoch" else args.save_strategy
    args.eval_strategy = "steps" if args.eval_strategy == "epoch" else args.eval_strategy
    args.logging_steps = min(args.logging_steps, max(1, args.max_steps // 20))
    if args.load_best_model_at_end and args.save_strategy == "steps" and args.save_steps % args.eval_steps:
        raise ValueError(
            f"--load_best_model_at_end: a checkpoint every {args.save_steps} steps does not fall on a validation "
            f"every {args.eval_steps}: pass --save_steps that is a multiple of --eval_steps"
        )


def _as_steps(steps: float, run: int) -> int:
    """Below 1 they are a share of the run, as for Trainer."""
    return math.ceil(steps * run) if steps < 1 else int(steps)


def validate_nothing(args: TrainingSettings) -> None:
    """The settings of a run that has nothing to validate on.

    Raises:
        ValueError: they ask for the best model, which nothing shows.
    """
    if args.load_best_model_at_end or args.save_strategy == "best":
        raise ValueError(
            "nothing is validated on, which shows no best model: give validation rows, or leave out "
            "--load_best_model_at_end and --save_strategy best"
        )
    args.eval_strategy = "no"
