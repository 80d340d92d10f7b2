"""One training job from its recipe: load, build, train, save, report."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel, ProcessorMixin

from descant.data.collator import AudioTextCollator
from descant.data.sources import Corpus, limit_clips, load_corpus
from descant.training.arguments import TrainingSettings, parse_settings
from descant.training.audio_warm_up import warm_up_audio
from descant.training.augmentation import augment_mel
from descant.training.checkpoints import list_checkpoints
from descant.training.curriculum import share_epochs
from descant.training.data import TrainingData, prepare_data, some_features
from descant.training.exit_status import ending_with_status, set_up_logging
from descant.training.finish import check_hub, describe_and_push, save_model
from descant.training.lora import add_lora
from descant.training.plan import print_plan
from descant.training.recipe import Recipe
from descant.training.rows import TokenizedRows
from descant.training.run_folder import check_run_folder, claim_run_folder, hold_run_folder, require_same_run
from descant.training.start import load_start, standardise_convolutions
from descant.training.steps import set_steps
from descant.training.trainer import DescantTrainer
from descant.training.validation import Validation

log = logging.getLogger(__name__)


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
    check_hub(settings, corpus)
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
    if settings.dataset == "demo" and settings.report and trainer.accelerator.is_main_process:
        from descant.training.report import report_demo

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
