"""What a recipe is: a name, the stages of its curriculum, and its settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

# The settings that every recipe of the reference shares: AdamW at torch's own weight decay, label smoothing 0.1,
# cosine from 1e-4 to 1e-9 by step, seed 42. Warm-up below 1 is a share of all steps. The order is ours: rows of a clip
# come in threes of like length, so that a batch of 32 hears about 14 clips, each once.
REFERENCE_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "num_train_epochs": 100,
        "warmup_steps": 0.2,
        "per_device_train_batch_size": 32,
        "per_device_eval_batch_size": 32,
        "rows_per_clip": 3,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr": 1e-9},
        "weight_decay": 0.01,
        "label_smoothing_factor": 0.1,
        "max_grad_norm": 0.0,
        "seed": 42,
        "save_total_limit": 2,
        "save_strategy": "epoch",
        "eval_strategy": "epoch",
        "logging_steps": 50,
    }
)

# A model small enough for two cores: a few minutes from random weights to answers that depend on the audio.
DEMO_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "dataset": "demo",
        "model_size": "small",
        "audio_warm_up_epochs": 20,
        "first_conv_lr_scale": 0.1,
        "audio_lr_scale": 0.2,
        "num_train_epochs": 16,
        "per_device_train_batch_size": 72,
        "per_device_eval_batch_size": 128,
        "learning_rate": 2e-3,
        "adam_beta2": 0.98,
        "warmup_steps": 0.1,
        "max_grad_norm": 1.0,
        "rows_per_clip": 16,
        "augment": True,
        "save_epochs": 4,
        "eval_epochs": 4,
    }
)


@dataclass(frozen=True)
class Stage:
    """One part of a curriculum: a dataset configuration (`short`, `long`, `all`, `captions`) and its epochs."""

    config: str
    epochs: float


@dataclass(frozen=True)
class Recipe:
    """A training job.

    `settings`, and on top of them `demo` for the embedded corpus, are fields of
    `descant.training.arguments.TrainingSettings`; `demo_stages` stand in for `stages` there. `new_model` builds what
    is trained where no `--init_from` is given, and `prepare` gives it a start from the data (see
    `descant.training.start` and `run`); None stands for what an LPMusicCaps model needs.
    """

    name: str
    stages: tuple[Stage, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    demo: Mapping[str, Any] = field(default_factory=dict)
    demo_stages: tuple[Stage, ...] = ()
    new_model: Callable[..., Any] | None = None
    prepare: Callable[..., None] | None = None

    def stages_for(self, dataset: str, config: str | None) -> tuple[Stage, ...]:
        """The curriculum for a dataset: of one configuration where one is asked for."""
        if config is not None:
            return (Stage(config, 1),)
        return self.demo_stages if dataset == "demo" and self.demo_stages else self.stages

    def defaults(self, demo: bool) -> dict[str, Any]:
        """The settings before a YAML file and the command line are read."""
        settings = {**REFERENCE_SETTINGS, "output_dir": f"outputs/{self.name}", **self.settings}
        if demo:
            settings |= {**DEMO_SETTINGS, "output_dir": f"outputs/{self.name}-demo", **self.demo}
        return settings
