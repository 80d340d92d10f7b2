"""What a recipe is: a name, the stages of its curriculum, its settings, the options that one kind of model alone has.

Nothing here needs torch or transformers.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
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

NEW_TEXT = "new"  # in the place of a language model: one that the training data's own words make
FOR_SAVED = ("new_words", "projector_branch", "branch_warm_up_epochs")  # what only a saved MertLM heeds
Idle = Iterator[tuple[str, str]]  # option, and why it would do nothing


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


# Options


@dataclass
class ModelOptions:
    """Options that one kind of model alone has. With the defaults they change nothing."""

    kind: ClassVar[str] = ""  # the model type of the configuration
    title: ClassVar[str] = ""
    counts: ClassVar[dict[str, int]] = {}
    shapes: ClassVar[tuple[str, ...]] = ()  # what a new model alone heeds
    shared_demo: ClassVar[Mapping[str, Any]] = {}

    @property
    def augments(self) -> bool:
        """Whether the features of training clips are varied."""
        return False

    @property
    def base_model(self) -> str | None:
        """The model whose weights a new one takes over."""
        return None

    @property
    def parts(self) -> list[str]:
        """The models that a new one is joined from, as far as they are given."""
        return []

    def part_scales(self) -> dict[str, float]:
        """Return the parts of the model that learn at a pace of their own, as shares of the learning rate."""
        return {}

    def find_idle(self, given: Collection[str], init_from: str | None) -> Idle:
        """Yield the given options that would do nothing beside the others, with the reason."""
        if init_from:
            yield from ((name, "shapes a new model, and --init_from gives one") for name in self.shapes)


@dataclass
class LPMusicCapsOptions(ModelOptions):
    """Options of LPMusicCaps models."""

    kind: ClassVar[str] = "lp_music_caps"
    title: ClassVar[str] = "LPMusicCaps"
    counts: ClassVar[dict[str, int]] = {"audio_warm_up_epochs": 0}
    shapes: ClassVar[tuple[str, ...]] = ("text_init_from", "tokenizer", "model_size", "audio_warm_up_epochs")
    shared_demo: ClassVar[Mapping[str, Any]] = {
        "model_size": "small", "audio_warm_up_epochs": 20, "first_conv_lr_scale": 0.1, "audio_lr_scale": 0.2,
        "augment": True,
    }  # fmt: skip

    text_init_from: str | None = field(
        default=None, metadata={"help": "Hub id or folder of BART weights for the text side of a new model"}
    )
    tokenizer: str = field(default="facebook/bart-base", metadata={"help": "tokenizer of a new bart-base-size model"})
    model_size: str = field(default="base", metadata={"help": "size of a new model", "choices": ["base", "small"]})
    audio_warm_up_epochs: int = field(
        default=0, metadata={"help": "epochs in which a new small model first learns to listen"}
    )
    # Log-mels are in decibels, ten times the scale at which AdamW's steps suit a fresh layer's weights.
    first_conv_lr_scale: float = field(
        default=1.0, metadata={"help": "learning rate of the first convolution, as a share of learning_rate"}
    )
    audio_lr_scale: float = field(
        default=1.0, metadata={"help": "learning rate of the convolutions after the warm-up, as a share"}
    )
    augment: bool = field(default=False, metadata={"help": "shift, tilt and mask the log-mel of training clips"})

    @property
    def augments(self) -> bool:
        """Whether the features of training clips are varied."""
        return self.augment

    @property
    def base_model(self) -> str | None:
        """The model whose weights a new one takes over."""
        return self.text_init_from

    def part_scales(self) -> dict[str, float]:
        """Return the parts of the model that learn at a pace of their own, as shares of the learning rate."""
        return {
            "audio_encoder.conv_stack": self.audio_lr_scale,
            "audio_encoder.conv1": self.audio_lr_scale * self.first_conv_lr_scale,
        }

    def find_idle(self, given: Collection[str], init_from: str | None) -> Idle:
        """Yield the given options that would do nothing beside the others, with the reason."""
        yield from super().find_idle(given, init_from)
        size = f"does nothing for a new model of --model_size {self.model_size}"
        idle = ("text_init_from", "tokenizer") if self.model_size == "small" else ("audio_warm_up_epochs",)
        yield from ((name, size) for name in idle)


@dataclass
class MertLMOptions(ModelOptions):
    """Options of MertLM models."""

    kind: ClassVar[str] = "mert_lm"
    title: ClassVar[str] = "MertLM"
    counts: ClassVar[dict[str, int]] = {"pool_stride": 1, "tokens_per_state": 1, **dict.fromkeys(FOR_SAVED, 0)}
    shapes: ClassVar[tuple[str, ...]] = (
        "audio_encoder", "text_model", "layer_mix", "pooling", "pool_stride", "projector", "projector_size",
        "projector_dropout", "tokens_per_state",
    )  # fmt: skip

    audio_encoder: str | None = field(
        default=None, metadata={"help": "Hub id or folder of a new MertLM's frozen audio encoder, or musicnn"}
    )
    text_model: str | None = field(
        default=None,
        metadata={"help": "Hub id or folder of the causal language model of a new MertLM, or new: a small random one"},
    )
    layer_mix: str = field(
        default="mean", metadata={"help": "encoder states that are read", "choices": ["last", "mean", "learned"]}
    )
    pooling: str = field(
        default="stride", metadata={"help": "means over frames", "choices": ["none", "stride", "mean"]}
    )
    pool_stride: int = field(default=15, metadata={"help": "frames of one mean of --pooling stride"})
    projector: str = field(default="linear", metadata={"help": "linear or mlp", "choices": ["linear", "mlp"]})
    projector_size: int | None = field(default=None, metadata={"help": "hidden width of an mlp, rank of a linear one"})
    projector_dropout: float = field(default=0.0, metadata={"help": "share of the states that is dropped in training"})
    tokens_per_state: int = field(default=1, metadata={"help": "embeddings that each pooled state becomes"})
    projector_lr_scale: float = field(
        default=1.0, metadata={"help": "learning rate of a MertLM's projector, as a share of learning_rate"}
    )
    new_words: int = field(
        default=0,
        metadata={"help": "words of the training texts, at most, that --init_from's tokenizer is to learn whole"},
    )
    projector_branch: int = field(
        default=0, metadata={"help": "width of a hidden layer that learns in place of the projector of --init_from"}
    )
    branch_dropout: float = field(default=0.4, metadata={"help": "dropout before and after that layer in training"})
    branch_warm_up_epochs: int = field(
        default=0, metadata={"help": "epochs in which that layer first learns to tell the answers of closed questions"}
    )

    @property
    def parts(self) -> list[str]:
        """The models that a new one is joined from, as far as they are given."""
        return [name for name in (self.audio_encoder, self.text_model) if name and name != NEW_TEXT]

    def part_scales(self) -> dict[str, float]:
        """Return the parts of the model that learn at a pace of their own, as shares of the learning rate."""
        return {"projector": self.projector_lr_scale}

    def find_idle(self, given: Collection[str], init_from: str | None) -> Idle:
        """Yield the given options that would do nothing beside the others, with the reason."""
        yield from super().find_idle(given, init_from)
        if self.pooling != "stride":
            yield "pool_stride", f"does nothing with --pooling {self.pooling}"
        if not init_from:
            yield from ((name, "changes a saved model, and --init_from gives none") for name in FOR_SAVED)
