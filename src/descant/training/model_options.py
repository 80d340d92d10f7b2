"""The options that one kind of model alone has: what it is made of, and how its parts train."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

NEW_TEXT = "new"  # in the place of a language model: one that the training data's own words make
FOR_SAVED = ("new_words", "projector_branch", "branch_warm_up_epochs")  # what only a saved MertLM heeds
Idle = Iterator[tuple[str, str]]  # option, and why it would do nothing


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
