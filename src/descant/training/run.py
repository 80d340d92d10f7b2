"""One training job from its recipe: load, build, train, save, report."""

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from peft import PeftModel
from transformers import PreTrainedModel, ProcessorMixin, TrainingArguments

from descant.data.collator import AudioTextCollator
from descant.data.corpus import Corpus, limit_clips, load_corpus
from descant.program import use_all_cores
from descant.publish.card import describe_hardware, write_card
from descant.publish.facts import read_facts
from descant.publish.hub import check_push, publish_folder
from descant.publish.licence import choose_licence, describe_part
from descant.publish.records import describe_data, hash_clips, inherit_records, write_records
from descant.training.audio_warm_up import augment_mel, warm_up_audio
from descant.training.curriculum import CurriculumSampler, rows_per_step, set_steps, share_epochs
from descant.training.decisions import save_decisions
from descant.training.finite_loss import NonFiniteLossError
from descant.training.recipe import Recipe, TrainingSettings, parse_settings
from descant.training.run_folder import check_run_folder, claim_run_folder, hold_run_folder, require_same_run
from descant.training.saving import CheckpointError, list_checkpoints
from descant.training.start import load_start, naming_failures, standardise_convolutions
from descant.training.trainer import DescantTrainer, Validation, add_lora
from descant.training.training_data import TokenizedRows, TrainingData, prepare_data, some_features

log = logging.getLogger(__name__)


def set_up_logging() -> None:
    """Plain lines on stderr, and transformers' own only where something is wrong."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    transformers.logging.set_verbosity_warning()
    transformers.logging.disable_progress_bar()


@contextmanager
def ending_with_status(name: str) -> Iterator[None]:
    """Runs on all cores; ends the program with one sentence on stderr where it does not end well.

    2 when refused, 1 when it broke off (a full disk, a loss that is not finite), 130 when interrupted.
    """
    use_all_cores()
    try:
        yield
    except ValueError as error:
        log.error("%s: %s", name, error)
        sys.exit(2)
    except (CheckpointError, NonFiniteLossError) as error:
        log.error("%s: %s", name, error)
        sys.exit(1)
    except KeyboardInterrupt:
        log.error("%s: interrupted; the same command goes on from the last checkpoint", name)
        sys.exit(130)


def check_hub(
    settings: TrainingArguments, init_from: str | None, data: Sequence[Mapping[str, Any]], licence: str | None,
    parts: Sequence[str] = (),
) -> None:  # fmt: skip
    """Make sure, before hours are spent, that the records of `--init_from` can be carried on, and that what is trained
    may be pushed to `--hub_model_id`.

    Args:
        settings: those of either kind of recipe; `publish` says whether the model will be pushed.
        data: id and licence of each dataset, and of each model, that the new model learns from beside `init_from`.
        licence: what `--license` asks for.
        parts: the models that the new one is joined from.

    Raises:
        ValueError: records out of reach, no `--hub_model_id`, no permission, or no licence.
    """
    with naming_failures(f"--init_from {init_from}"):
        earlier = inherit_records(init_from)[0] if init_from else []
    if not settings.publish:
        return
    if not settings.hub_model_id:
        raise ValueError("--push_to_hub needs --hub_model_id NAME/MODEL")
    choose_licence([*earlier, *data], licence, [describe_part(name) for name in parts])
    if settings.process_index == 0:
        check_push(settings.hub_model_id, private=bool(settings.hub_private_repo))


def check_hub_of_recipe(settings: TrainingSettings, corpus: Corpus) -> None:
    """As `check_hub`, for a model that answers questions; an adapter's base must be on the Hub too."""
    if settings.publish and settings.lora and not _has_public_base(settings):
        raise ValueError("--push_to_hub of a LoRA adapter needs --init_from HUB_ID: an adapter names its base by it")
    data = [{"id": corpus.id, "licence": corpus.licence}]
    check_hub(settings, settings.init_from, data, settings.license, _named_parts(settings))


def _has_public_base(settings: TrainingSettings) -> bool:
    """Whether those who load the adapter can load what it is for: a Hub model, or the parts that a model names."""
    on_hub = settings.init_from and not Path(settings.init_from).exists()
    return bool(on_hub or len(_named_parts(settings)) == 2)


def _named_parts(settings: TrainingSettings) -> list[str]:
    """The parts that the model to train is joined from, as far as a folder or the settings name them."""
    if settings.init_from:
        return list(read_facts(settings.init_from).parts) if Path(settings.init_from).exists() else []
    return [name for name in (settings.audio_encoder, settings.text_model) if name]


def save_model(trainer: DescantTrainer, data: TrainingData, settings: TrainingSettings) -> Path:
    """The model folder: weights, processor, and what it was trained on."""
    folder = Path(settings.output_dir)
    trainer.save_model(str(folder))
    if trainer.accelerator.is_main_process:
        if isinstance(trainer.model, PeftModel):
            trainer.model.get_base_model().save_beside_adapter(str(folder))
        clips = hash_clips(data.features, {row.clip_id for row in data.rows.rows})
        corpus = data.corpus
        entry = describe_data(corpus.id, corpus.revision, corpus.licence, clips, sorted(data.configs))
        write_records(folder, [entry], clips, settings.init_from)
    trainer.accelerator.wait_for_everyone()
    return folder


def describe_and_push(trainer: DescantTrainer, settings: TrainingSettings, hours: float) -> None:
    """Write the model card, and push the folder in one commit where `--push_to_hub` asks for it."""
    if not trainer.accelerator.is_main_process:
        return
    base_model = settings.init_from or settings.text_init_from
    hardware = describe_hardware(settings.world_size, settings.device.type)
    write_card(
        settings.output_dir, hardware=hardware, hours=hours, base_model=base_model, repo_id=settings.hub_model_id
    )
    if settings.publish:
        private = bool(settings.hub_private_repo)
        log.info("pushed: %s", publish_folder(
            settings.output_dir, settings.hub_model_id, private=private, licence=settings.license
        ))  # fmt: skip


def print_plan(
    recipe: Recipe, settings: TrainingSettings, corpus: Corpus, curriculum: CurriculumSampler, model: PreTrainedModel
) -> None:
    """Data, sizes, steps, effective batch and precision, on stderr, once."""
    if settings.process_index == 0:
        print("\n".join(describe_plan(recipe, settings, corpus, curriculum, model)), file=sys.stderr, flush=True)


def describe_plan(
    recipe: Recipe, settings: TrainingSettings, corpus: Corpus, curriculum: CurriculumSampler, model: PreTrainedModel
) -> list[str]:
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    stages = ", then ".join(
        f"{stage.epochs} epochs of {len(stage.rows):,} {stage.name} rows" for stage in curriculum.stages
    )
    splits = {split: _clips(corpus, split) for split in corpus.splits()}
    return [
        f"{recipe.name}: {type(model).__name__}, {parameters:,} trainable parameters, "
        f"from {settings.init_from or 'random weights'}",
        f"  data       {corpus.id} ({corpus.licence}): "
        + ", ".join(f"{n:,} {split} clips" for split, n in splits.items()),
        f"  curriculum {stages}",
        f"  steps      {settings.max_steps:,} of {rows_per_step(settings):,} rows "
        f"({settings.world_size} processes x {settings.per_device_train_batch_size} "
        f"x {settings.gradient_accumulation_steps} accumulated)",
        f"  precision  {_precision(settings)} on {settings.device.type}, learning rate {settings.learning_rate:g}",
        f"  output     {settings.output_dir} ({_checkpoints(settings)})",
    ]


def _clips(corpus: Corpus, split: str) -> int:
    return len({row.clip_id for rows in corpus.configs.values() for row in rows.get(split, [])})


def _checkpoints(settings: TrainingSettings) -> str:
    if settings.save_strategy == "steps":
        return f"checkpoint every {settings.save_steps:,} steps"
    return "no checkpoints" if settings.save_strategy == "no" else "checkpoint of the best model"


def _precision(settings: TrainingSettings) -> str:
    """That of the settings, or of accelerate where they choose none."""
    return "fp32" if settings.mixed_precision == "no" else settings.mixed_precision


def train(recipe: Recipe, argv: Sequence[str] | None = None) -> None:
    """Run a recipe from the command line; the status tells how it ended.

    0 when done, 1 when it broke off (a full disk, a loss that is not finite), 2 when refused, 130 when interrupted,
    each with one sentence on stderr.
    """
    set_up_logging()
    settings = parse_settings(recipe, argv)
    with ending_with_status(recipe.name):
        run(recipe, settings)


def run(recipe: Recipe, settings: TrainingSettings) -> Path:
    """Train, save and report; the folder of the finished model, which no other run touches meanwhile."""
    with hold_run_folder(settings):
        return run_alone(recipe, settings)


def run_alone(recipe: Recipe, settings: TrainingSettings) -> Path:
    """What `run` does, in a folder that is held."""
    this_run = check_run_folder(recipe, settings)
    stages = recipe.stages_for(settings.dataset, settings.dataset_config)
    share_epochs(stages, settings.num_train_epochs)  # refuses too few before anything is computed
    corpus = load_corpus(settings.dataset, [stage.config for stage in stages], settings.audio_dir)
    for problem in corpus.problems:
        log.warning("left out: %s", problem)
    check_hub_of_recipe(settings, corpus)
    if settings.max_clips:
        corpus = limit_clips(corpus, settings.max_clips)
    model, processor = load_start(settings, training_texts(corpus), recipe.new_model)
    data = prepare_data(corpus, stages, model, processor, settings)
    data_now = {"training_data": data.fingerprint()}
    require_same_run(settings.output_dir, data_now)
    if not settings.init_from:
        (recipe.prepare or teach_to_listen)(model, processor, data, settings)
    set_steps(settings, data.curriculum)
    model = add_lora(model, settings.lora_rank, settings.lora_targets) if settings.lora else model
    print_plan(recipe, settings, data.corpus, data.curriculum, model)
    trainer = build_trainer(model, processor, data, settings)
    claim_run_folder(settings.output_dir, this_run | data_now)
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=settings.resume)
    hours = (time.monotonic() - started) / 3600
    folder = save_model(trainer, data, settings)
    if trainer.accelerator.is_main_process:
        save_decisions(folder, data.configs.values(), data.features, data.corpus.audio, settings.device)
    if settings.dataset == "demo" and settings.report and trainer.accelerator.is_main_process:
        from descant.training.demo_report import report_demo

        report_demo(model, processor, data.features, folder, data.configs)
    describe_and_push(trainer, settings, hours)
    return folder


def training_texts(corpus: Corpus) -> list[str]:
    rows = [row for splits in corpus.configs.values() for row in splits.get("train", [])]
    return [row.answer for row in rows] + [row.question for row in rows if row.question is not None]


def teach_to_listen(
    model: PreTrainedModel, processor: ProcessorMixin, data: TrainingData, settings: TrainingSettings
) -> None:
    """Give a new small model's audio encoder a start; a run that goes on from a checkpoint has had it."""
    if settings.model_size != "small" or (settings.resume != "no" and list_checkpoints(settings.output_dir)):
        return
    standardise_convolutions(model.audio_encoder, some_features(data))
    if settings.audio_warm_up_epochs:
        warm_up_audio(
            model, data.rows.rows, data.features, epochs=settings.audio_warm_up_epochs,
            learning_rate=settings.learning_rate, first_conv_lr_scale=settings.first_conv_lr_scale, seed=settings.seed,
        )  # fmt: skip


def build_trainer(
    model: PreTrainedModel, processor: ProcessorMixin, data: TrainingData, settings: TrainingSettings
) -> DescantTrainer:
    collator = AudioTextCollator(
        data.features, pad_token_id=model.config.pad_token_id,
        decoder_start_token_id=model.config.decoder_start_token_id,
        augment=augment_mel if settings.augment else None, seed=settings.seed,
    )  # fmt: skip
    return DescantTrainer(
        curriculum=data.curriculum, validation=build_validation(processor, data, collator, settings), model=model,
        args=settings, train_dataset=data.rows, data_collator=collator, processing_class=processor,
    )  # fmt: skip


def build_validation(
    processor: ProcessorMixin, data: TrainingData, collator: AudioTextCollator, settings: TrainingSettings
) -> Validation | None:
    rows = list(dict.fromkeys(row for splits in data.configs.values() for row in splits.get("validation", [])))
    if not rows or not settings.eval_rows:
        return None
    chosen = np.linspace(0, len(rows) - 1, min(settings.eval_rows, len(rows))).astype(int)
    tokenized = TokenizedRows([rows[index] for index in chosen], processor, settings.max_answer_tokens)
    return Validation(
        tokenized, collator, processor, data.features, settings.per_device_eval_batch_size, settings.eval_answers
    )
