"""The settings of a run: what all kinds of runs share, what one kind of model adds, and how they are parsed."""

import argparse
import copy
import difflib
import math
from collections.abc import Callable, Collection, Iterable, Sequence
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
from descant.training.recipe import BaseRecipe, Idle, LPMusicCapsOptions, MertLMOptions, ModelOptions

NO_MODEL = "none"  # in the place of a model to start from: random weights

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
        "optim", "optim_args", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm",
        "neftune_noise_alpha", "seed", "lora", "lora_rank", "bf16", "fp16", "mixed_precision", "world_size",
        "load_best_model_at_end", "metric_for_best_model", "greater_is_better",
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
        self.init_from = {NO_MODEL: None, box.NAME: str(box.FOLDER)}.get(str(self.init_from), self.init_from)
        self.dataloader_pin_memory &= self.device.type == "cuda"

    def find_idle(self, given: Collection[str]) -> Idle:
        """Yield the given options that would do nothing beside the others, with the reason."""
        if not self.lora:
            yield from ((name, "does nothing without --lora") for name in ("lora_rank", "lora_targets"))
        ordering = ("data_seed", "train_sampling_strategy")
        yield from ((name, "does nothing, since --seed alone decides the order of rows") for name in ordering)
        yield "ignore_data_skip", "would train on the first rows again where a run goes on from a checkpoint"
        yield "dataloader_drop_last", "would train on the first rows in place of the last ones"
        yield "resume_from_checkpoint", "does nothing here, since --resume says where to go on"
        for name in ("hub_revision", "hub_strategy", "hub_always_push", "hub_token"):
            yield name, "does nothing, since the finished model is pushed in one commit to main, with `hf auth login`"
        for name in (
            "bf16_full_eval", "fp16_full_eval", "prediction_loss_only", "eval_accumulation_steps",
            "batch_eval_metrics", "include_for_metrics", "eval_use_gather_object",
        ):  # fmt: skip
            yield name, "does nothing, since validation is descant's own"
        yield "auto_find_batch_size", "would end a run early, since its steps are planned for one batch size"


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
    recipe: RecipeT, argv: Sequence[str] | None, kind: type[SettingsT],
    find_options: Callable[[str | None], type[OptionsT]],
) -> Job[RecipeT, SettingsT, OptionsT]:  # fmt: skip
    """Read settings and options of `recipe` from `--config FILE.yaml` and, standing over it, the command line.

    find_options: gives the options for what `--init_from` says, or the recipe where nothing does.
    Unknown keys, settings that do not go together, options that would do nothing and missing data end the program with
    status 2 and one sentence on stderr.
    """
    first = _Parser((), add_help=False, allow_abbrev=False, prog=f"{recipe.name}.py")
    first.add_argument("--config")
    first.add_argument("--demo", nargs="?", const=True, default=False, type=string_to_bool)
    first.add_argument("--init_from")
    known, rest = first.parse_known_args(argv)
    rest += [f"--init_from={known.init_from}"] if known.init_from else []
    file = _YamlFile(known.config, first) if known.config else None
    demo = known.demo or bool(file and file.demo)
    init_from: str | None = known.init_from or (file.init_from if file else None)
    defaults = recipe.defaults(demo, init_from) | {"demo": demo}
    options = find_options(init_from or defaults.get("init_from"))
    parser = _Parser((kind, options), allow_abbrev=False, prog=f"{recipe.name}.py")
    if file:
        file.require_known((kind, options))
    defaults = {**(options.shared_demo if demo else {}), **defaults}
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
    for name in ("save_epochs", "eval_epochs"):
        if getattr(settings, name) <= 0:
            strategy = name.replace("epochs", "strategy")
            parser.error(f"argument --{name}: {getattr(settings, name):g} is not above 0; for none, --{strategy} no")
    for name in ("save_steps", "eval_steps"):
        if getattr(settings, name) < 0:
            parser.error(f"argument --{name}: {getattr(settings, name):g} is less than 0")
    for name, reason in [*settings.find_idle(job.given), *options.find_idle(job.given, settings.init_from)]:
        if name in job.given and (getattr(options, name, None) or getattr(settings, name, None)):
            parser.error(f"--{name}: {reason}; leave it out")
    if settings.world_size > 1 and not settings.average_tokens_across_devices:
        parser.error("--average_tokens_across_devices: without it, processes would weigh tokens differently; leave it")
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

    def __init__(self, path: str, parser: _Parser) -> None:
        self.path, self.parser = path, parser
        self.nodes = dict(self._read())
        self.given = set(self.nodes)
        demo, start = self.nodes.get("demo"), self.nodes.get("init_from")
        self.demo = isinstance(demo, yaml.ScalarNode) and demo.value.lower() in ("true", "yes", "y", "on", "t", "1")
        self.init_from: str | None = start.value if isinstance(start, yaml.ScalarNode) and start.value else None

    def require_known(self, kinds: tuple[type, ...]) -> None:
        """Refuse a setting that neither the run nor its model has."""
        for key in self.nodes:
            if key not in _field_names(*kinds):
                self._refuse(f"unknown key {key!r}{_explain_unknown(key, kinds)}")
        self.hints = {name: hint for kind in kinds for name, hint in get_type_hints(kind).items()}

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
