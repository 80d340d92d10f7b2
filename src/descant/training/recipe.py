"""What a recipe is: a name, the stages of its curriculum and its settings.

Nothing here needs torch or transformers.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

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

# Two cores: a few minutes from random weights to answers that depend on the audio.
DEMO_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "dataset": "demo",
        "num_train_epochs": 16,
        "per_device_train_batch_size": 72,
        "per_device_eval_batch_size": 128,
        "learning_rate": 2e-3,
        "adam_beta2": 0.98,
        "warmup_steps": 0.1,
        "max_grad_norm": 1.0,
        "rows_per_clip": 16,
        "save_epochs": 4,
        "eval_epochs": 4,
    }
)

BOX = "box"  # the name of the model in the box
# Its ears are frozen and their states computed once, so that more epochs fit into the same minutes.
BOX_DEMO_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "num_train_epochs": 11,
        "per_device_train_batch_size": 36,
        "learning_rate": 3e-3,
        "weight_decay": 0.05,
        "new_words": 500,
        "projector_branch": 512,
        "branch_warm_up_epochs": 60,
    }
)

GOES_ON = "the same command goes on from the last checkpoint"


@dataclass(frozen=True)
class Stage:
    """One part of a curriculum: a dataset configuration (`short`, `long`, `all`, `captions`) and its epochs."""

    config: str
    epochs: float


class ModelStart(Protocol):
    """What builds a new model of one kind; a module will do, such as `descant.training.start`."""

    @property
    def OPTIONS(self) -> Any:
        """The dataclass of the options that only this kind of model has (see `descant.training.settings`)."""

    def build(self, options: Any, texts: Iterable[str], demo: bool) -> "tuple[PreTrainedModel, ProcessorMixin]":
        """Return a new model, in float32, and its processor.

        options: an `OPTIONS`. texts: the training split's questions and answers, for a tokenizer. demo: whether a
        small model will do where the options name none.
        """

    def adapt(
        self, model: "PreTrainedModel", processor: "ProcessorMixin", texts: Iterable[str], options: Any, seed: int
    ) -> None:
        """Make a saved model of this kind ready for a dataset, in place. Arguments as for `build`."""

    def prepare(
        self, model: "PreTrainedModel", processor: "ProcessorMixin", data: Any, settings: Any, options: Any
    ) -> None:
        """Give a model a start from its training data, in place; of a saved one only what `adapt` has added.

        data: `TrainingData`. settings: the run's `TrainingSettings`. options: an `OPTIONS`.
        """


@dataclass(frozen=True)
class BaseRecipe:
    """A name, and values of settings in place of the settings' own defaults.

    `demo` stands over `settings` on the embedded corpus. `shared` and `shared_demo` are below both, for all recipes of
    a kind.
    """

    shared: ClassVar[Mapping[str, Any]] = {}
    shared_demo: ClassVar[Mapping[str, Any]] = {"dataset": "demo"}

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    demo: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def defaults(self, demo: bool, init_from: str | None = None) -> dict[str, Any]:
        """Return the settings before a YAML file and the command line are read.

        init_from: the model to start from that one of both names.
        """
        settings = {**self.shared, "output_dir": f"outputs/{self.name}", **self.settings}
        if demo:
            settings |= {**self.shared_demo, "output_dir": f"outputs/{self.name}-demo", **self.demo}
        return settings


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """A training job of a model that answers questions.

    `settings` and `demo` are fields of `descant.training.settings.TrainingSettings` and of the options of its model;
    `demo_stages` stand in for `stages` on the embedded corpus. `start` imports what builds a new model where no
    `--init_from` is given, once the run has begun; None stands for `descant.training.start`, which builds an
    LPMusicCaps model. With `box_start` and `box_stages`, the kind of the model in the box and a curriculum for it, the
    demo starts from that by default.
    """

    shared = REFERENCE_SETTINGS
    shared_demo = DEMO_SETTINGS

    stages: tuple[Stage, ...]
    demo_stages: tuple[Stage, ...] = ()
    start: Callable[[], ModelStart] | None = None
    box_start: Callable[[], ModelStart] | None = None
    box_stages: tuple[Stage, ...] = ()

    def defaults(self, demo: bool, init_from: str | None = None) -> dict[str, Any]:
        """Return the settings before a YAML file and the command line are read; see `BaseRecipe.defaults`."""
        settings = super().defaults(demo)
        if demo and self.box_start and init_from in (None, BOX):
            settings |= {**BOX_DEMO_SETTINGS, "init_from": BOX}
        return settings

    def stages_for(self, dataset: str, config: str | None, from_box: bool = False) -> tuple[Stage, ...]:
        """Return the curriculum for a dataset: of one configuration where `--dataset_config` names one."""
        if config is not None:
            return (Stage(config, 1),)
        if dataset == "demo" and from_box and self.box_stages:
            return self.box_stages
        return self.demo_stages if dataset == "demo" and self.demo_stages else self.stages
