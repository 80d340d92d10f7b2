"""One training job from its recipe: load, build, train, save, report, publish."""

import logging
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
import transformers
from peft import PeftModel
from transformers import PreTrainedModel, ProcessorMixin, set_seed

from descant.data.collator import AudioTextCollator
from descant.data.corpus import Corpus, limit_clips, load_corpus
from descant.data.extraction import prepare_features
from descant.models import box
from descant.program import require_writable, use_all_cores
from descant.publish.card import describe_hardware, write_card
from descant.publish.facts import describe_data, hash_clips, inherit_records, read_facts, write_records
from descant.publish.hub import check_push, publish_folder
from descant.publish.licence import choose_licence, describe_part
from descant.training import start as lp_music_caps_start
from descant.training.decisions import save_decisions
from descant.training.recipe import ModelOptions, ModelStart, Recipe, Stage
from descant.training.run_folder import KeepFolder, RunFolder, TrainingTime, hold_run_folder, identify_run
from descant.training.saving import whole_model
from descant.training.settings import Job, RunSettings, SettingsT, TrainingSettings, options_for, parse_job
from descant.training.start import (
    Model,
    add_lora,
    augment_mel,
    describe_model,
    find_adapter_base,
    go_on_with_lora,
    is_adapter,
    naming_failures,
    start_model,
)
from descant.training.trainer import DescantTrainer, Validation
from descant.training.training_data import (
    CurriculumSampler,
    TokenizedRows,
    TrainingData,
    plan_steps,
    prepare_data,
    rows_per_step,
    share_epochs,
    spread_evenly,
)

log = logging.getLogger(__name__)

CorpusT = TypeVar("CorpusT")
RecipeJob = Job[Recipe, TrainingSettings, ModelOptions]


class Run(ABC, Generic[SettingsT, CorpusT]):
    """The steps of a training run in their order; those that depend on the kind of model are its subclasses'."""

    def __init__(self, job: Job[Any, SettingsT, Any]) -> None:
        self.job, self.settings = job, job.settings

    @property
    @abstractmethod
    def stages(self) -> Sequence[Stage]:
        """The curriculum."""

    @abstractmethod
    def identify(self) -> dict[str, Any]:
        """Return what identifies the run; see `identify_run`."""

    @abstractmethod
    def read_corpus(self) -> CorpusT:
        """Return the data that the settings name; what is left out of them is logged."""

    @abstractmethod
    def check_hub(self, corpus: CorpusT) -> None:
        """Refuse, before hours are spent, what could not be recorded or pushed at the end; see `check_hub`."""

    @abstractmethod
    def prepare(self, corpus: CorpusT, folder: RunFolder) -> str:
        """Read all that training needs, and return a fingerprint of the data."""

    @abstractmethod
    def begin(self, folder: RunFolder) -> list[str]:
        """Build what trains, and return the lines of the plan."""

    @abstractmethod
    def train(self) -> None:
        """Train, from the last checkpoint on where there is one."""

    def earlier_hours(self) -> float:
        """Return the hours of training before this start of the run that its model rests on, as far as they are known.
        """
        return 0.0

    @abstractmethod
    def finish(self, folder: Path) -> None:
        """Save the model with its records, and report on it."""

    @property
    @abstractmethod
    def base_model(self) -> str | None:
        """The model whose weights the trained one began with."""

    def run(self) -> Path:
        """Take all steps while the output folder is locked; return that folder.

        Raises:
            ValueError: something is refused. BrokeOff, OSError: training or saving could not go on.
        """
        settings = self.settings
        with hold_run_folder(settings.output_dir, settings.should_save) as folder:
            share_epochs(self.stages, settings.num_train_epochs)  # refuses too few before anything is computed
            now = self.identify()
            folder.check(now, starts_over=settings.resume == "no")
            if settings.should_save:
                require_writable(Path(settings.features))
            corpus = self.read_corpus()
            self.check_hub(corpus)
            now |= {"training_data": self.prepare(corpus, folder)}
            folder.check(now, starts_over=True)
            plan = self.begin(folder)
            if settings.process_index == 0:
                print("\n".join(plan), file=sys.stderr, flush=True)
            folder.claim(now)
            started = time.monotonic()
            self.train()
            hours = self.earlier_hours() + (time.monotonic() - started) / 3600
            self.finish(folder.path)
            folder.keep()
            if settings.process_index == 0:
                describe_and_push(settings, hours, self.base_model)
            return folder.path


class QuestionRun(Run[TrainingSettings, Corpus]):
    """A run that trains a model to answer questions."""

    model: Model
    processor: ProcessorMixin
    data: TrainingData
    trainer: DescantTrainer
    time: TrainingTime

    def __init__(self, job: RecipeJob) -> None:
        super().__init__(job)
        self.recipe, self.options = job.recipe, job.options
        self.start = find_start(job.recipe, job.settings.init_from)

    @property
    def stages(self) -> Sequence[Stage]:
        """The curriculum."""
        settings = self.settings
        return self.recipe.stages_for(str(settings.dataset), settings.dataset_config, is_box(settings.init_from))

    def identify(self) -> dict[str, Any]:
        """Return what identifies the run."""
        return identify_run(self.job, stages=[[stage.config, stage.epochs] for stage in self.stages])

    def read_corpus(self) -> Corpus:
        """Return the rows of the dataset."""
        settings = self.settings
        corpus = load_corpus(str(settings.dataset), [stage.config for stage in self.stages], settings.audio_dir)
        for problem in corpus.problems:
            log.warning("left out: %s", problem)
        return corpus

    def check_hub(self, corpus: Corpus) -> None:
        """Refuse what could not be recorded or pushed; an adapter's base must be on the Hub too."""
        settings = self.settings
        parts = named_parts(settings.init_from, self.options) if settings.publish else []
        if settings.publish and not has_public_base(settings, parts):
            raise ValueError(
                "--push_to_hub of a LoRA adapter needs --init_from HUB_ID: an adapter names its base by it"
            )
        check_hub(settings, [{"id": corpus.id, "licence": corpus.licence}], parts)

    def prepare(self, corpus: Corpus, folder: RunFolder) -> str:
        """Load or build the model, compute features and tokenise rows."""
        settings = self.settings
        if settings.max_clips:
            corpus = limit_clips(corpus, settings.max_clips)
        self.model, self.processor = start_model(
            settings.init_from, self.start, self.options, training_texts(corpus),
            seed=settings.seed, demo=settings.demo,
        )  # fmt: skip
        self.options = options_for(self.job, self.model.config.model_type)
        if settings.init_from:
            self.start.adapt(self.model, self.processor, training_texts(corpus), self.options, settings.seed)
        with settings.main_process_first(desc="extracting features"):
            extractor = self.model.cached_features(self.processor.feature_extractor)
            features = prepare_features(corpus, extractor, settings.features)
        self.data = prepare_data(corpus, self.stages, features, self.processor, settings)
        return self.data.fingerprint()

    def begin(self, folder: RunFolder) -> list[str]:
        """Give a new model its start, add adapters, and build the trainer."""
        settings = self.settings
        self.start.prepare(self.model, self.processor, self.data, settings, self.options)
        self.model = self._with_adapters(self.model)
        self.trainer = build_trainer(self.model, self.processor, self.data, settings, self.options)
        self.trainer.add_callback(KeepFolder(folder))
        self.time = TrainingTime(folder.path)
        self.trainer.add_callback(self.time)
        planned = self.trainer.args
        return describe_plan(self.recipe.name, planned, self.data.corpus, self.data.curriculum, self.model)

    def _with_adapters(self, model: Model) -> Model:
        settings, given = self.settings, self.job.given
        rank = settings.lora_rank if "lora_rank" in given else None
        if isinstance(model, PeftModel):
            return go_on_with_lora(model, str(settings.init_from), rank, settings.lora_targets)
        if not settings.lora:
            return model
        set_seed(settings.seed)  # of the adapter's first weights, whatever loading the model has drawn
        return add_lora(model, settings.lora_rank, settings.lora_targets)

    def train(self) -> None:
        """Train, from the last checkpoint on where there is one."""
        self.trainer.train(resume_from_checkpoint=self.settings.resume)

    def earlier_hours(self) -> float:
        """Return the hours of training that led to the checkpoint that was resumed from."""
        return self.time.before / 3600

    def finish(self, folder: Path) -> None:
        """Save the model with its records; on the demo, report its answers."""
        settings, data = self.settings, self.data
        if isinstance(self.model, PeftModel) and not settings.init_from and not self.options.parts:
            log.info("the adapter's base is a new model that is published nowhere: merged, and saved whole")
            self.model = self.trainer.model = self.model.merge_and_unload()
        save_model(self.trainer, data, folder, settings.device)
        if not self.trainer.accelerator.is_main_process:
            return
        record_data(folder, data, settings.init_from)
        if settings.dataset == "demo" and settings.report:
            from descant.training.demo_report import report_demo

            report_demo(self.model, self.processor, data.features, folder, data.configs)
        else:
            log.info("Model saved to %s. Ask it: descant ask %s SONG.mp3", folder, folder)

    @property
    def base_model(self) -> str | None:
        """The model whose weights the trained one began with."""
        return self.settings.init_from or self.options.base_model


def run(job: RecipeJob) -> Path:
    """Train, save and report; return the folder of the finished model."""
    return QuestionRun(job).run()


def run_recipe(recipe: Recipe, argv: Sequence[str] | None = None) -> None:
    """Run a recipe from the command line; see `descant.training.recipe.train`, which says how it ended."""
    set_up_libraries()
    run(read_job(recipe, argv))


def read_job(recipe: Recipe, argv: Sequence[str] | None = None) -> RecipeJob:
    """Return the job that a command line (by default the program's own) asks of a recipe; see `parse_job`."""
    return parse_job(recipe, argv, TrainingSettings, lambda init_from: find_start(recipe, init_from).OPTIONS)


def find_start(recipe: Recipe, init_from: str | None) -> ModelStart:
    """Return what makes a model of the recipe's kind, or that of the model in the box, ready to train."""
    if recipe.box_start and is_box(init_from):
        return recipe.box_start()
    return recipe.start() if recipe.start else lp_music_caps_start


def is_box(init_from: str | None) -> bool:
    """Return whether a run starts from the model in the box, by its name or its folder."""
    return init_from in (box.NAME, str(box.FOLDER))


def set_up_libraries() -> None:
    """Use this process's share of the cores; silence transformers below warnings."""
    use_all_cores()
    transformers.logging.set_verbosity_warning()
    transformers.logging.disable_progress_bar()


def check_hub(settings: RunSettings, data: Sequence[Mapping[str, Any]], parts: Iterable[str] = ()) -> None:
    """Make sure, before hours are spent, that the records of `--init_from` can be carried on, and that what is trained
    may be pushed to `--hub_model_id`.

    Args:
        data: id and licence of each dataset, and of each model, that the new model learns from beside `init_from`.
        parts: the models that the new one is joined from.

    Raises:
        ValueError: records out of reach, no `--hub_model_id`, no permission, or no licence.
    """
    with naming_failures(f"--init_from {settings.init_from}"):
        earlier = inherit_records(settings.init_from)[0] if settings.init_from else []
    if not settings.publish:
        return
    if not settings.hub_model_id:
        raise ValueError("--push_to_hub needs --hub_model_id NAME/MODEL")
    choose_licence([*earlier, *data], settings.license, [describe_part(name) for name in parts])
    if settings.process_index == 0:
        check_push(settings.hub_model_id, private=bool(settings.hub_private_repo))


def named_parts(init_from: str | None, options: ModelOptions) -> list[str]:
    """Return the parts that the model to train is joined from, as far as a folder or the options name them."""
    if init_from:
        return list(read_facts(init_from).parts) if Path(init_from).exists() else []
    return options.parts


def has_public_base(settings: RunSettings, parts: Sequence[str]) -> bool:
    """Return whether others can load what the model is loaded onto: of an adapter, a Hub model or named parts."""
    source = settings.init_from
    if parts or source is None:  # an adapter of a new model is merged
        return True
    with naming_failures(f"--init_from {source}"):
        adapted = is_adapter(source)
        base = find_adapter_base(source) if adapted else source
    return base is not None and not Path(base).exists() if adapted or settings.lora else True


def save_model(trainer: DescantTrainer, data: TrainingData, folder: Path, device: torch.device) -> None:
    """Write the model folder: weights, processor, and the settings of typed answers, which are fitted to the model."""
    main = trainer.accelerator.is_main_process
    with whole_model(folder, writes=main) as staged:
        trainer.accelerator.wait_for_everyone()
        trainer.save_model(str(staged))
        if main:
            if isinstance(trainer.model, PeftModel):
                base: PreTrainedModel = trainer.model.get_base_model()
                base.save_beside_adapter(str(staged))
            save_decisions(staged, data.configs.values(), data.features, data.corpus.audio, device)
    trainer.accelerator.wait_for_everyone()


def record_data(folder: Path, data: TrainingData, init_from: str | None) -> None:
    """Write the records of the training data, those of the model that it began from included."""
    clips = hash_clips(data.features, {row.clip_id for row in data.rows.rows})
    corpus = data.corpus
    entry = describe_data(corpus.id, corpus.revision, corpus.licence, clips, sorted(data.configs))
    write_records(folder, [entry], clips, init_from)


def describe_and_push(settings: RunSettings, hours: float, base_model: str | None) -> None:
    """Write the model card, and push the folder in one commit where `--push_to_hub` asks for it."""
    folder, repo_id = settings.output_dir, settings.hub_model_id
    hardware = describe_hardware(settings.world_size, settings.device.type)
    write_card(folder, hardware=hardware, hours=hours, base_model=base_model, repo_id=repo_id)
    if settings.publish:
        private = bool(settings.hub_private_repo)
        log.info("pushed: %s", publish_folder(folder, str(repo_id), private=private, licence=settings.license))


def describe_plan(
    name: str, settings: TrainingSettings, corpus: Corpus, curriculum: CurriculumSampler, model: Model
) -> list[str]:
    """Return data, sizes, steps, effective batch and precision, a line each."""
    stages = ", then ".join(
        f"{stage.epochs} epochs of {stage.draws:,} draws of {len(stage.rows):,} {stage.name} rows"
        if stage.draws else f"{stage.epochs} epochs of {len(stage.rows):,} {stage.name} rows"
        for stage in curriculum.stages
    )  # fmt: skip
    splits = {split: _clips(corpus, split) for split in corpus.splits()}
    return [
        f"{name}: {describe_model(model)}, from {name_start(settings.init_from)}",
        f"  data       {corpus.id} ({'licence unknown' if corpus.licence == 'unknown' else corpus.licence}): "
        + ", ".join(f"{n:,} {split} clips" for split, n in splits.items()),
        f"  curriculum {stages}",
        f"  steps      {settings.max_steps:,} of {rows_per_step(settings):,} rows "
        f"({settings.world_size} processes x {settings.per_device_train_batch_size} "
        f"x {settings.gradient_accumulation_steps} accumulated){_warm_up(settings)}",
        f"  precision  {_precision(settings)} on {settings.device.type}, learning rate {settings.learning_rate:g}",
        f"  output     {settings.output_dir} ({_checkpoints(settings)})",
    ]


def name_start(init_from: str | None) -> str:
    """Return what a run starts from, in words: the model in the box lies in the package."""
    if is_box(init_from):
        return "the model in the box"
    return init_from or "random weights"


def _clips(corpus: Corpus, split: str) -> int:
    return len({row.clip_id for rows in corpus.configs.values() for row in rows.get(split, [])})


def _warm_up(settings: TrainingSettings) -> str:
    """Return a warning where the learning rate never leaves its warm-up, whose first step learns nothing."""
    if settings.get_warmup_steps(settings.max_steps) < settings.max_steps:
        return ""
    return ": all of it is warm-up, which begins with a learning rate of 0; take more epochs or smaller batches"


def _checkpoints(settings: TrainingSettings) -> str:
    if settings.save_strategy == "steps":
        return f"checkpoint every {settings.save_steps:,} steps"
    return "no checkpoints" if settings.save_strategy == "no" else "checkpoint of the best model"


def _precision(settings: TrainingSettings) -> str:
    """Return the precision of the settings, or accelerate's where they choose none."""
    return "fp32" if settings.mixed_precision == "no" else settings.mixed_precision


def training_texts(corpus: Corpus) -> list[str]:
    """Return all answers and questions of the training split."""
    rows = [row for splits in corpus.configs.values() for row in splits.get("train", [])]
    return [row.answer for row in rows] + [row.question for row in rows if row.question is not None]


def build_trainer(
    model: Model, processor: ProcessorMixin, data: TrainingData, settings: TrainingSettings, options: ModelOptions
) -> DescantTrainer:
    """Return the trainer of a model on its data, with epochs worked out as steps."""
    collator = AudioTextCollator(
        data.features, pad_token_id=model.config.pad_token_id,
        decoder_start_token_id=model.config.decoder_start_token_id,
        augment=augment_mel if options.augments else None, seed=settings.seed,
    )  # fmt: skip
    validation = build_validation(processor, data, collator, settings)
    return DescantTrainer(
        curriculum=data.curriculum, validation=validation, part_scales=options.part_scales(), model=model,
        args=plan_steps(settings, data.curriculum, validated=validation is not None),
        train_dataset=data.rows, data_collator=collator, processing_class=processor,
    )  # fmt: skip


def build_validation(
    processor: ProcessorMixin, data: TrainingData, collator: AudioTextCollator, settings: TrainingSettings
) -> Validation | None:
    """Return up to `eval_rows` validation rows, spread evenly, or None where there are none."""
    validation = (row for splits in data.configs.values() for row in splits.get("validation", []))
    rows = spread_evenly(validation, settings.eval_rows)
    if not rows:
        return None
    tokenized = TokenizedRows(rows, processor, settings.max_answer_tokens)
    return Validation(
        tokenized, collator, processor, data.features, settings.per_device_eval_batch_size, settings.eval_answers
    )
