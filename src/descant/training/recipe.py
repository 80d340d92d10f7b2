"""What a recipe is: a name, the stages of its curriculum, and its settings."""

import argparse
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import yaml
from transformers import HfArgumentParser, Seq2SeqTrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

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
    `descant.training.recipe.TrainingSettings`; `demo_stages` stand in for `stages` there. `new_model` builds what
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


Settings = TypeVar("Settings")


class NamedDefaults(Protocol):
    """A recipe, as far as its settings are concerned."""

    @property
    def name(self) -> str: ...

    def defaults(self, demo: bool) -> dict[str, Any]:
        """The settings before a YAML file and the command line are read."""


@dataclass
class TrainingSettings(Seq2SeqTrainingArguments):
    """`transformers.Seq2SeqTrainingArguments` plus what descant needs to know of data, model and curriculum."""

    dataset: str | None = field(default=None, metadata={"help": "demo, a folder, a CSV/JSONL file, or a Hub id"})
    dataset_config: str | None = field(
        default=None, metadata={"help": "short, long, all or captions: replaces the recipe's stages by one"}
    )
    audio_dir: str | None = field(default=None, metadata={"help": "folder of the clips' audio files"})
    max_clips: int = field(default=0, metadata={"help": "use only this many clips of each split (0: all)"})
    features: str = field(default="features", metadata={"help": "folder of the cached log-mel features"})
    init_from: str | None = field(default=None, metadata={"help": "Hub id or folder of the model to start from"})
    text_init_from: str | None = field(
        default=None, metadata={"help": "Hub id or folder of BART weights for the text side of a new model"}
    )
    tokenizer: str = field(default="facebook/bart-base", metadata={"help": "tokenizer of a new bart-base-size model"})
    model_size: str = field(default="base", metadata={"help": "size of a new model", "choices": ["base", "small"]})
    audio_encoder: str | None = field(
        default=None, metadata={"help": "Hub id or folder of a new MertLM's frozen audio encoder, or musicnn"}
    )
    text_model: str | None = field(
        default=None, metadata={"help": "Hub id or folder of the causal language model of a new MertLM"}
    )
    layer_mix: str = field(
        default="mean", metadata={"help": "encoder states heard", "choices": ["last", "mean", "learned"]}
    )
    pooling: str = field(
        default="stride", metadata={"help": "means over frames", "choices": ["none", "stride", "mean"]}
    )
    pool_stride: int = field(default=15, metadata={"help": "frames of one mean of --pooling stride"})
    projector: str = field(default="linear", metadata={"help": "linear or mlp", "choices": ["linear", "mlp"]})
    tokens_per_state: int = field(default=1, metadata={"help": "embeddings that each pooled state becomes"})
    projector_lr_scale: float = field(
        default=1.0, metadata={"help": "learning rate of a MertLM's projector, as a share of learning_rate"}
    )
    resume: str = field(default="auto", metadata={"help": "auto, no, or the path of a checkpoint"})
    rows_per_clip: int = field(
        default=1, metadata={"help": "rows of one clip that stay together in a batch and share its audio encoding"}
    )
    augment: bool = field(default=False, metadata={"help": "shift, tilt and mask the log-mel of training clips"})
    draws_per_epoch: int = field(
        default=0, metadata={"help": "tag-balanced draws that make an epoch (0: every row once)"}
    )
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
    max_answer_tokens: int = field(default=128, metadata={"help": "answers are cut at this many tokens"})
    save_epochs: float = field(default=1.0, metadata={"help": "epochs between checkpoints"})
    eval_epochs: float = field(default=1.0, metadata={"help": "epochs between validations"})
    save_steps: float = field(default=0, metadata={"help": "steps between checkpoints (0: save_epochs decides)"})
    eval_steps: float = field(default=0, metadata={"help": "steps between validations (0: eval_epochs decides)"})
    eval_rows: int = field(default=1000, metadata={"help": "validation rows that give the loss (0: none)"})
    eval_answers: int = field(default=64, metadata={"help": "validation rows that are answered and scored (0: none)"})
    report: bool = field(default=True, metadata={"help": "answer and score the demo's held-out clips at the end"})
    license: str | None = field(
        default=None, metadata={"help": "licence of the pushed model (default: the strictest of its data)"}
    )
    publish: bool = field(default=False, init=False)
    lora: bool = field(default=False, metadata={"help": "train LoRA adapters, and whole what the model wants so"})
    lora_rank: int = field(default=16, metadata={"help": "rank of the LoRA matrices"})
    lora_targets: str | None = field(
        default=None, metadata={"help": "regular expression of the modules that get them (default: the model's own)"}
    )
    demo: bool = field(default=False, metadata={"help": "the embedded corpus and a small model"})
    # Filters NaN out of the logged loss at the price of a host sync a step; a NaN must stop the run instead.
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "hide NaN losses in the log"})
    disable_tqdm: bool | None = field(default=False, metadata={"help": "no progress bar"})
    # The collator names what the model needs; there are no columns to remove.
    remove_unused_columns: bool = field(default=False, metadata={"help": "drop batch keys that forward lacks"})


def parse_settings(
    recipe: NamedDefaults, argv: Sequence[str] | None = None, kind: type[Settings] = TrainingSettings
) -> Settings:
    """Read the settings of `recipe`, of class `kind`, from `--config FILE.yaml` and the command line.

    Unknown keys, settings that do not go together and missing data end the program with status 2 and one sentence on
    stderr.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config")
    first.add_argument("--demo", action="store_true")
    known, rest = first.parse_known_args(argv)
    parser = HfArgumentParser(kind, allow_abbrev=False, prog=f"{recipe.name}.py")
    overrides = _read_yaml(known.config, parser, kind) if known.config else {}
    demo = known.demo or bool(overrides.get("demo"))
    parser.set_defaults(**{**recipe.defaults(demo), "demo": demo, **overrides})
    _refuse_unknown_flags(parser, rest, kind)
    try:
        (settings,) = parser.parse_args_into_dataclasses(args=rest)
    except ValueError as error:  # transformers' own checks
        parser.error(" ".join(str(error).split()))
    # Trainer would push by itself, file by file and with a card of its own: the finished folder is pushed instead.
    settings.publish, settings.push_to_hub = settings.push_to_hub, False
    settings.dataloader_pin_memory &= settings.device.type == "cuda"
    if settings.dataset is None:
        parser.error("no data given: pass --dataset FOLDER|FILE.csv|HUB_ID, or --demo for the embedded corpus")
    _refuse_missing_trackers(parser, settings.report_to)
    return settings


def _read_yaml(path: str, parser: argparse.ArgumentParser, kind: type) -> dict[str, Any]:
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        parser.error(f"{path}: cannot be read as YAML: {error}")
    if not isinstance(values, dict):
        parser.error(f"{path}: expected `key: value` lines, found a {type(values).__name__}")
    for key in values:
        if key not in _field_names(kind):
            parser.error(f"{path}: unknown key {key!r}{_suggestion(key, kind)}")
    return values


def _refuse_unknown_flags(parser: argparse.ArgumentParser, arguments: Sequence[str], kind: type) -> None:
    _, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        parser.error(f"unknown argument {unknown[0]!r}{_suggestion(unknown[0].lstrip('-'), kind)}")


def _refuse_missing_trackers(parser: argparse.ArgumentParser, trackers: Sequence[str]) -> None:
    installed = get_available_reporting_integrations()
    for name in trackers:
        if name not in INTEGRATION_TO_CALLBACK:
            parser.error(f"--report_to {name}: unknown; choose trackio, tensorboard, wandb or none")
        if name not in installed:
            parser.error(f"--report_to {name}: not installed; run `pip install {name}`, or pass --report_to none")


def _suggestion(key: str, kind: type) -> str:
    close = difflib.get_close_matches(key, _field_names(kind), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _field_names(kind: type) -> set[str]:
    return {one.name for one in fields(kind)}
