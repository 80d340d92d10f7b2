"""What a run will do, printed before it starts."""

import sys

from transformers import PreTrainedModel

from descant.data.sources import Corpus
from descant.training.arguments import TrainingSettings
from descant.training.curriculum import CurriculumSampler
from descant.training.recipe import Recipe
from descant.training.steps import rows_per_step


def print_plan(
    recipe: Recipe, settings: TrainingSettings, corpus: Corpus, curriculum: CurriculumSampler, model: PreTrainedModel
) -> None:
    """Data, sizes, steps, effective batch and precision, on stderr, once."""
    if settings.process_index == 0:
        print("\n".join(describe_plan(recipe, settings, corpus, curriculum, model)), file=sys.stderr, flush=True)


def describe_plan(
    recipe: Recipe, settings: TrainingSettings, corpus: Corpus, curriculum: CurriculumSampler, model: PreTrainedModel
) -> list[str]:
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    stages = ", then ".join(
        f"{stage.epochs} epochs of {len(stage.rows):,} {stage.name} rows" for stage in curriculum.stages
    )
    splits = {split: _clips(corpus, split) for split in corpus.splits()}
    return [
        f"{recipe.name}: {type(model).__name__}, {parameters:,} trainable parameters, "
        f"from {settings.init_from or 'random weights'}",
        f"  data       {corpus.id} ({corpus.licence}): "
        + ", ".join(f"{n:,} {split} clips" for split, n in splits.items()),
        f"  curriculum {stages}",
        f"  steps      {settings.max_steps:,} of {rows_per_step(settings):,} rows "
        f"({settings.world_size} processes x {settings.per_device_train_batch_size} "
        f"x {settings.gradient_accumulation_steps} accumulated)",
        f"  precision  {_precision(settings)} on {settings.device.type}, learning rate {settings.learning_rate:g}",
        f"  output     {settings.output_dir} ({_checkpoints(settings)})",
    ]


def _clips(corpus: Corpus, split: str) -> int:
    return len({row.clip_id for rows in corpus.configs.values() for row in rows.get(split, [])})


def _checkpoints(settings: TrainingSettings) -> str:
    if settings.save_strategy == "steps":
        return f"checkpoint every {settings.save_steps:,} steps"
    return "no checkpoints" if settings.save_strategy == "no" else "checkpoint of the best model"


def _precision(settings: TrainingSettings) -> str:
    """That of the settings, or of accelerate where they choose none."""
    return "fp32" if settings.mixed_precision == "no" else settings.mixed_precision
