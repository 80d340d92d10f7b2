"""The output folder of a run: which run it holds, and that another never writes into it."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from descant.files import hold_lock, write_whole
from descant.training.recipe import Recipe, TrainingSettings

log = logging.getLogger(__name__)

RUN_FILE = "run.json"
LOCK_FILE = ".lock"
# What decides the weights. A run may go on with another number of workers or another logger, never with these changed.
IDENTITY = (
    "dataset", "dataset_config", "init_from", "text_init_from", "tokenizer", "model_size", "num_train_epochs",
    "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "lr_scheduler_type",
    "lr_scheduler_kwargs", "warmup_steps", "weight_decay", "label_smoothing_factor", "max_grad_norm", "seed",
    "rows_per_clip", "augment", "audio_warm_up_epochs", "audio_lr_scale", "first_conv_lr_scale", "draws_per_epoch",
    "max_clips", "adam_beta2", "max_answer_tokens", "lora", "lora_rank", "lora_targets", "audio_encoder", "text_model",
    "layer_mix", "pooling", "pool_stride", "projector", "tokens_per_state", "projector_lr_scale", "bf16", "fp16",
    "mixed_precision", "world_size",
)  # fmt: skip


@contextmanager
def hold_run_folder(settings: TrainingArguments) -> Iterator[None]:
    """Keep other runs out of the output folder until this one ends, in whatever way.

    Raises:
        ValueError: another run is writing there.
    """
    if not settings.should_save:  # another process of the same run holds it
        yield
        return
    folder = Path(settings.output_dir)
    busy = f"--output_dir {folder}: another run is writing there: wait until it ends, or choose another folder"
    # Not inherited: workers that load data would hold it too, and outlive a killed run by seconds.
    with hold_lock(folder / LOCK_FILE, busy, inherited=False):
        yield


def identity(recipe: Recipe, settings: TrainingSettings) -> dict[str, Any]:
    """The recipe's name, its stages and the settings that decide the weights."""
    values = {name: getattr(settings, name) for name in IDENTITY}
    planned = recipe.stages_for(settings.dataset, settings.dataset_config)
    stages = [[stage.config, stage.epochs] for stage in planned]
    return json.loads(json.dumps({"recipe": recipe.name, "stages": stages, **values}, default=str))


def check_run_folder(recipe: Recipe, settings: TrainingSettings) -> dict[str, Any]:
    """The identity of this run, before its settings are worked out; refuse an output folder that holds another one.

    Raises:
        ValueError: names the folder, the first setting that differs, and the way out.
    """
    now = identity(recipe, settings)
    require_same_run(settings.output_dir, now)
    return now


def require_same_run(output_dir: str, now: dict[str, Any]) -> None:
    """Refuse an output folder that holds another run than `now`, which JSON can hold; see `check_run_folder`.

    What an earlier version did not write down of its run counts as unchanged.
    """
    path = Path(output_dir) / RUN_FILE
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else now
    if unknown := now.keys() - before.keys():
        log.warning("%s does not tell its %s: taken as it is now", path, ", ".join(sorted(unknown)))
    for name, value in now.items():
        if before.get(name, value) != value:
            raise ValueError(
                f"--output_dir {output_dir} holds a run with {name} = {before[name]!r}, this one has "
                f"{value!r}: choose another --output_dir"
            )


def claim_run_folder(output_dir: str, run: dict[str, Any]) -> None:
    """Write down which run (as `check_run_folder` returned it) the folder holds."""
    write_whole(Path(output_dir) / RUN_FILE, json.dumps(run, indent=2) + "\n")
