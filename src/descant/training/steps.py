"""Epochs and rows as optimizer steps."""

from descant.training.arguments import TrainingSettings
from descant.training.curriculum import CurriculumSampler


def rows_per_step(args: TrainingSettings) -> int:
    """The effective batch: rows of all processes and accumulated batches in one optimizer step."""
    return args.per_device_train_batch_size * max(args.world_size, 1) * args.gradient_accumulation_steps


def set_steps(args: TrainingSettings, curriculum: CurriculumSampler) -> None:
    """Turn epochs into steps: the run's length, and how often it is saved and validated."""
    batches = -(-len(curriculum) // (args.per_device_train_batch_size * max(args.world_size, 1)))
    whole = -(-batches // args.gradient_accumulation_steps)
    args.max_steps = whole if args.max_steps <= 0 else min(args.max_steps, whole)
    an_epoch = whole / curriculum.epochs
    args.save_strategy, args.save_steps = "steps", args.save_steps or max(1, round(args.save_epochs * an_epoch))
    args.eval_strategy, args.eval_steps = "steps", args.eval_steps or max(1, round(args.eval_epochs * an_epoch))
    args.logging_steps = min(args.logging_steps, max(1, args.max_steps // 20))
