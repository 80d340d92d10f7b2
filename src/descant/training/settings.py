"""The settings of a run: what all kinds of runs share, what one kind of model adds, and how they are parsed."""

import argparse
import copy
import difflib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import yaml
from transformers import HfArgumentParser, TrainingArguments
from transformers.hf_argparser import string_to_bool
from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from descant.models import box
from descant.program import count, one_line
from descant.training.recipe import BaseRecipe

NEW_TEXT = "new"  # in the place of a language model: one that the training data's own words make
Idle = Iterator[tuple[str, str]]  # option, and why it would do nothing

LARGEST_YAML, DEEPEST_YAML = 2**20, 10  # bytes, and lists and mappings within each other
YAML = "tag:yaml.org,2002:"
# Values that are text to YAML, and those that its words for true and false are.
TEXTS, WORDS = (f"{YAML}str",), (f"{YAML}str", f"{YAML}bool")
SCALARS = tuple(f"{YAML}{kind}" for kind in ("str", "bool", "int", "float", "timestamp"))


@dataclass
class RunSettings(TrainingArguments):
    """`transformers.TrainingArguments` plus what every run of descant needs to know, whatever it trains."""

    # Option → its smallest value.
    counts: ClassVar[dict[str, int]] = {
        "per_device_train_batch_size": 1, "per_device_eval_batch_size": 1, "gradient_accumulation_steps": 1,
        "dataloader_num_workers": 0, "seed": 0, "lora_rank": 1,
    }  # fmt: skip

    # What decides the weights. A run may go on with another number of workers or another logger, never with these
    # changed.
    identity: ClassVar[tuple[str, ...]] = (
        "dataset", "init_from", "num_train_epochs", "max_steps", "per_device_train_batch_size",
        "gradient_accumulation_steps", "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps",
        "weight_decay", "adam_beta2", "max_grad_norm", "seed", "lora", "lora_rank", "bf16", "fp16", "mixed_precision",
        "world_size",
    )  # fmt: skip

    if TYPE_CHECKING:
        push_to_hub: bool = False  # Trainer's, which `__post_init__` changes

    dataset: str | None = field(default=None, metadata={"help": "demo, a folder, a CSV/JSONL file, or a Hub id"})
    audio_dir: str | None = field(default=None, metadata={"help": "folder of the sound files that the dataset names"})
    features: str = field(default="features", metadata={"help": "folder that keeps what is computed from sound"})
    init_from: str | None = field(
        default=None, metadata={"help": "Hub id or folder of the model to start from, box or none"}
    )
    resume: str = field(default="auto", metadata={"help": "auto, no, or the path of a checkpoint"})
    save_epochs: float = field(default=1.0, metadata={"help": "epochs between checkpoints"})
    eval_epochs: float = field(default=1.0, metadata={"help": "epochs between validations"})
    save_steps: float = field(default=0, metadata={"help": "steps between checkpoints (0: save_epochs decides)"})
    eval_steps: float = field(default=0, metadata={"help": "steps between validations (0: eval_epochs decides)"})
    license: str | None = field(
        default=None, metadata={"help": "licence of the pushed model (default: the strictest of its data)"}
    )
    publish: bool = field(default=False, init=False)
    lora: bool = field(default=False, metadata={"help": "train LoRA adapters, and whole what the model wants so"})
    lora_rank: int = field(default=16, metadata={"help": "rank of the LoRA matrices"})
    demo: bool = field(default=False, metadata={"help": "the embedded corpus and a small model"})
    # Filters NaN out of the logged loss at the price of a host sync a step; a NaN must stop the run instead.
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "hide NaN losses in the log"})
    disable_tqdm: bool | None = field(default=False, metadata={"help": "no progress bar"})
    # The collator names what the model needs; there are no columns to remove.
    remove_unused_columns: bool = field(default=False, metadata={"help": "drop batch keys that forward lacks"})

    def __post_init__(self) -> None:
        """Take over the push from Trainer, which would push file by file and with a card of its own."""
        super().__post_init__()
        self.publish, self.push_to_hub = self.push_to_hub, False
        self.init_from = {"none": None, box.NAME: str(box.FOLDER)}.get(str(self.init_from), self.init_from)
        self.dataloader_pin_memory &= self.device.type == "cuda"

    def find_idle(self, given: Collection[str]) -> Idle:
        """Yield the given options that would do nothing beside the others, with the reason."""
        if not self.lora:
            yield from ((name, "does nothing without --lora") for name in ("lora_rank", "lora_targets"))


@dataclass
class TrainingSettings(RunSettings):
    """The settings of a run that trains a model to answer questions, of whatever kind."""

    counts: ClassVar[dict[str, int]] = RunSettings.counts | {
        "max_clips": 0, "rows_per_clip": 1, "draws_per_epoch": 0, "max_answer_tokens": 2, "eval_rows": 0,
        "eval_answers": 0,
    }  # fmt: skip

    identity: ClassVar[tuple[str, ...]] = (
        *RunSettings.identity, "dataset_config", "label_smoothing_factor", "rows_per_clip", "draws_per_epoch",
        "max_clips", "max_answer_tokens", "lora_targets",
    )  # fmt: skip

    dataset_config: str | None = field(
        default=None, metadata={"help": "short, long, all or captions: replaces the recipe's stages by one"}
    )
    max_clips: int = field(default=0, metadata={"help": "use only this many clips of each split (0: all)"})
    rows_per_clip: int = field(
        default=1, metadata={"help": "rows of one clip that stay together in a batch and share its audio encoding"}
    )
    draws_per_epoch: int = field(
        default=0, metadata={"help": "tag-balanced draws that make an epoch (0: every row once)"}
    )
    max_answer_tokens: int = field(default=128, metadata={"help": "answers are cut at this many tokens"})
    eval_rows: int = field(default=1000, metadata={"help": "validation rows that give the loss (0: none)"})
    eval_answers: int = field(default=64, metadata={"help": "validation rows that are answered and scored (0: none)"})
    report: bool = field(default=True, metadata={"help": "answer and score the demo's held-out clips at the end"})
    lora_targets: str | None = field(
        default=None, metadata={"help": "regular expression of the modules that get them (default: the model's own)"}
    )


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
    counts: ClassVar[dict[str, int]] = {"pool_stride": 1, "tokens_per_state": 1}
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


QUESTION_MODELS: tuple[type[ModelOptions], ...] = (LPMusicCapsOptions, MertLMOptions)

RecipeT = TypeVar("RecipeT", bound=BaseRecipe)
SettingsT = TypeVar("SettingsT", bound=RunSettings)
OptionsT = TypeVar("OptionsT", bound=ModelOptions)


@dataclass(frozen=True)
class Job(Generic[RecipeT, SettingsT, OptionsT]):
    """A recipe with the settings of one run of it, the options of its kind of model, and which of both were given."""

    recipe: RecipeT
    settings: SettingsT
    options: OptionsT
    given: frozenset[str] = frozenset()


def options_for(job: Job[Any, Any, OptionsT], kind: str) -> ModelOptions:
    """Return the options of the model at hand, which `--init_from` may have made one of another kind.

    Raises:
        ValueError: an option of the recipe's own kind of model was given.
    """
    if kind == job.options.kind:
        return job.options
    idle = [one.name for one in fields(job.options) if one.name in job.given and getattr(job.options, one.name)]
    if idle:
        raise ValueError(f"--{idle[0]}: does nothing for the {kind} model of --init_from {job.settings.init_from}")
    return ModelOptions()


def with_changes(settings: SettingsT, **changes: Any) -> SettingsT:
    """Return a copy of settings with some of them changed, without running `TrainingArguments.__post_init__` again."""
    changed = copy.copy(settings)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


class _Parser(HfArgumentParser):
    """Parses settings; ends the program with status 2 and one sentence, which names the YAML file it is about."""

    source: str | None = None

    def add_argument(self, *flags: str, **options: Any) -> argparse.Action:
        """Add an option in one spelling: transformers adds another one with dashes."""
        return super().add_argument(*[flag for flag in flags if "-" not in flag.lstrip("-")], **options)

    def error(self, message: str) -> NoReturn:
        """End the program."""
        where = f"{self.source}: " if self.source else ""
        argparse.ArgumentParser.exit(self, 2, f"{self.prog}: {where}{' '.join(message.split())}\n")


def parse_job(
    recipe: RecipeT, argv: Sequence[str] | None, kind: type[SettingsT], options: type[OptionsT]
) -> Job[RecipeT, SettingsT, OptionsT]:
    """Read settings and options of `recipe` from `--config FILE.yaml` and, standing over it, the command line.

    Unknown keys, settings that do not go together, options that would do nothing and missing data end the program with
    status 2 and one sentence on stderr.
    """
    parser = _Parser((kind, options), allow_abbrev=False, prog=f"{recipe.name}.py")
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.error = parser.error  # type: ignore[method-assign]  # in the same form
    first.add_argument("--config")
    first.add_argument("--demo", nargs="?", const=True, default=False, type=string_to_bool)
    known, rest = first.parse_known_args(argv)
    file = _YamlFile(known.config, parser, (kind, options)) if known.config else None
    demo = known.demo or bool(file and file.demo)
    defaults = {**(options.shared_demo if demo else {}), **recipe.defaults(demo), "demo": demo}
    unknown = defaults.keys() - _field_names(kind, options)
    if unknown:
        raise ValueError(f"the recipe {recipe.name} sets {min(unknown)}, which is no setting of its model or its run")
    parser.set_defaults(**defaults)
    arguments = [*(file.read_into(parser) if file else []), *rest]
    _refuse_unknown_flags(parser, rest, (kind, options))
    try:
        settings, own = parser.parse_args_into_dataclasses(args=arguments)
    except (ValueError, TypeError, OSError, ImportError, NotImplementedError) as error:  # transformers' own checks
        parser.source = known.config
        parser.error(one_line(error))
    given = frozenset(_given(arguments, _field_names(kind, options)) | (file.given if file else set()))
    job = Job(recipe, settings, own, given)
    _check(parser, job)
    return job


def _given(arguments: Iterable[str], names: Collection[str]) -> set[str]:
    flags = [one[2:].partition("=")[0] for one in arguments if one.startswith("--")]
    return {flag if flag in names else flag.removeprefix("no_") for flag in flags} & set(names)


def _check(parser: _Parser, job: Job[Any, RunSettings, ModelOptions]) -> None:
    """Refuse what argparse and transformers let pass."""
    settings, options = job.settings, job.options
    for part in (settings, options):
        for one in fields(part):
            value = getattr(part, one.name, None)
            if isinstance(value, float) and not math.isfinite(value):
                parser.error(f"argument --{one.name}: {value} is no finite number")
            if one.name in part.counts:
                try:
                    count(part.counts[one.name])(str(value))
                except argparse.ArgumentTypeError as error:
                    parser.error(f"argument --{one.name}: {error}")
    for name, reason in [*settings.find_idle(job.given), *options.find_idle(job.given, settings.init_from)]:
        if name in job.given and (getattr(options, name, None) or getattr(settings, name, None)):
            parser.error(f"--{name}: {reason}; leave it out")
    if settings.dataset is None:
        parser.error("no data given: pass --dataset FOLDER|FILE.csv|HUB_ID, or --demo for the embedded corpus")
    _refuse_missing_trackers(parser, settings.report_to)


def _refuse_unknown_flags(parser: _Parser, arguments: Sequence[str], kinds: tuple[type, ...]) -> None:
    _, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        flag = unknown[0].partition("=")[0]
        parser.error(f"unknown argument {flag!r}{_explain_unknown(flag.lstrip('-'), kinds)}")


def _refuse_missing_trackers(parser: _Parser, trackers: Sequence[str]) -> None:
    installed = get_available_reporting_integrations()
    for name in trackers:
        if name not in INTEGRATION_TO_CALLBACK:
            parser.error(f"--report_to {name}: unknown; choose trackio, tensorboard, wandb or none")
        if name not in installed:
            parser.error(f"--report_to {name}: not installed; run `pip install {name}`, or pass --report_to none")


def _explain_unknown(key: str, kinds: tuple[type, ...]) -> str:
    """Return the end of a sentence: whose option it is, or which one is spelled alike."""
    for other in QUESTION_MODELS:
        if other not in kinds and key in _field_names(other):
            return f": an option of {other.title} models, which this recipe does not train"
    close = difflib.get_close_matches(key, _field_names(*kinds), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _field_names(*kinds: type) -> set[str]:
    return {one.name for kind in kinds for one in fields(kind) if one.init}


class _YamlFile:
    """A `--config` file: `setting: value` lines, each value such as the command line takes, or a list or mapping."""

    def __init__(self, path: str, parser: _Parser, kinds: tuple[type, ...]) -> None:
        self.path, self.parser = path, parser
        self.hints = {name: hint for kind in kinds for name, hint in get_type_hints(kind).items()}
        self.nodes = {key: node for key, node in self._read() if self._is_known(key, kinds)}
        self.given = set(self.nodes)
        demo = self.nodes.get("demo")
        self.demo = isinstance(demo, yaml.ScalarNode) and demo.value.lower() in ("true", "yes", "y", "on", "t", "1")

    def _refuse(self, problem: str) -> NoReturn:
        self.parser.source = self.path
        self.parser.error(problem)

    def _read(self) -> list[tuple[str, yaml.Node]]:
        path = Path(self.path)
        try:
            if not path.is_file():
                self._refuse("is a folder or a device" if path.exists() else "cannot be read: there is no such file")
            if path.stat().st_size > LARGEST_YAML:
                self._refuse(f"has over {LARGEST_YAML} bytes: it is no file of settings")
            text = path.read_text(encoding="utf-8")
            self._require_shallow(text)
            root = yaml.compose(text, yaml.SafeLoader)
        except (OSError, ValueError, yaml.YAMLError) as error:
            self._refuse(f"cannot be read as YAML: {error}")
        if root is None:
            return []
        if not isinstance(root, yaml.MappingNode):
            self._refuse("expected `setting: value` lines")
        for key, _ in root.value:
            if not isinstance(key, yaml.ScalarNode):
                self._refuse("expected `setting: value` lines, and one begins with a list or a mapping")
        return [(key.value, node) for key, node in root.value]

    def _require_shallow(self, text: str) -> None:
        """Refuse aliases and deep nesting, before anything is built of them."""
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST_YAML:
                self._refuse("is nested too deeply")
            if isinstance(event, yaml.AliasEvent):
                self._refuse("has an alias (*): write the value out")

    def _is_known(self, key: str, kinds: tuple[type, ...]) -> bool:
        if key not in _field_names(*kinds):
            self._refuse(f"unknown key {key!r}{_explain_unknown(key, kinds)}")
        return True

    def read_into(self, parser: _Parser) -> list[str]:
        """Return the single values as arguments, after a look at each; the others become defaults of `parser`."""
        arguments = []
        for key, node in self.nodes.items():
            hints = [get_origin(hint) or hint for hint in (self.hints[key], *get_args(self.hints[key]))]
            if isinstance(node, yaml.ScalarNode) and node.tag != f"{YAML}null":
                arguments.append(f"--{key}={self._text(key, node, hints)}")
            else:
                parser.set_defaults(**{key: self._value(key, node, hints)})
        parser.source = self.path
        parser.parse_known_args(arguments)  # an error names the file
        parser.source = None
        return arguments

    def _text(self, key: str, node: yaml.ScalarNode, hints: Collection[Any]) -> str:
        """Return a single value as it was written, and YAML's words for true and false as argparse has them."""
        if bool in hints and node.tag == f"{YAML}bool":
            return str(yaml.SafeLoader.bool_values[node.value.lower()])
        numbers = {int, float, bool} & set(hints)
        allowed = SCALARS if numbers else WORDS if str in hints else SCALARS
        if node.tag not in allowed:
            kind = node.tag.removeprefix(YAML)
            self._refuse(f"{key}: expected text, found {node.value!r}, which is {kind} to YAML: put it in quotes")
        return node.value

    def _value(self, key: str, node: yaml.Node, hints: Collection[Any]) -> Any:
        """Return nothing, a list or a mapping, where the setting takes such."""
        kinds = {yaml.ScalarNode: type(None), yaml.SequenceNode: list, yaml.MappingNode: dict}
        wanted = kinds[type(node)]
        found = {type(None): "nothing", list: "a list", dict: "a mapping"}[wanted]
        if wanted not in hints or node.tag not in (f"{YAML}{kind}" for kind in ("null", "seq", "map")):
            self._refuse(f"{key}: expected one value, found {found}")
        try:
            value = yaml.SafeLoader("").construct_document(node)
        except (ValueError, yaml.YAMLError) as error:
            self._refuse(f"{key}: cannot be read: {error}")
        if isinstance(value, list) and not all(isinstance(one, str) for one in value):
            self._refuse(f"{key}: expected a list of words")
        return value
