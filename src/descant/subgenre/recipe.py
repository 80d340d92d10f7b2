"""What a recipe for subgenres is. Nothing here needs torch or transformers."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from descant.training.recipe import BaseRecipe

SHARED_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "num_train_epochs": 10,
        "warmup_steps": 0.1,
        "per_device_train_batch_size": 32,
        "per_device_eval_batch_size": 64,
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.05,
        "max_grad_norm": 1.0,
        "seed": 42,
        "save_total_limit": 2,
        "save_strategy": "epoch",
        "eval_strategy": "epoch",
        "logging_steps": 20,
    }
)


@dataclass(frozen=True)
class SubgenreRecipe(BaseRecipe):
    """A training job on tracks.

    `questions` are asked of every window; their answers are the captions that the classifier reads. `settings` and
    `demo` are fields of `descant.subgenre.training.SubgenreSettings` and `SubgenreOptions`.
    """

    shared = SHARED_SETTINGS

    questions: tuple[str | None, ...]
