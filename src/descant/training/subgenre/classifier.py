"""Trains one classifier on some of the modalities, tunes it on validation tracks, saves it; loads a finished one."""

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoProcessor, PreTrainedModel

from descant.evaluation.labels import LabelPredictions
from descant.inference.model_folder import find_model
from descant.inference.track_hearing import hash_captioner
from descant.models.subgenre import SubgenreProcessor
from descant.models.subgenre.configuration_subgenre import MODALITIES
from descant.training.curriculum import CurriculumSampler, plan_stages
from descant.training.lora import add_lora
from descant.training.recipe import Stage
from descant.training.steps import rows_per_step, set_steps
from descant.training.subgenre.data import SubgenreData
from descant.training.subgenre.examples import Example, ExampleCollator, ExampleInputs
from descant.training.subgenre.fusion_weights import set_prior
from descant.training.subgenre.prediction import decide, mark_visible, predict_probabilities
from descant.training.subgenre.settings import SubgenreSettings
from descant.training.subgenre.start import load_classifier
from descant.training.subgenre.trainer import SubgenreTrainer
from descant.training.subgenre.tuning import tune_on_validation

FINISHED = ".finished"
STAGE = Stage("subgenre", 1)


@dataclass(frozen=True)
class Classifier:
    """A trained model with its processor; it was trained on some of the modalities."""

    model: PreTrainedModel
    processor: SubgenreProcessor
    modalities: tuple[str, ...]

    def read(self, examples: Sequence[Example]) -> ExampleInputs:
        """Examples as it takes them, with the modalities that it was trained on."""
        return ExampleInputs([example.keep(self.modalities) for example in examples], self.processor)

    def tell(self, inputs: ExampleInputs, modalities: Collection[str] = MODALITIES) -> LabelPredictions:
        """What it says about what it has read, with some of that hidden."""
        pad = self.processor.tokenizer.pad_token_id
        probabilities = predict_probabilities(self.model, inputs, pad, modalities=modalities)
        return decide(probabilities, self.model.config, inputs.there * mark_visible(modalities))


def train_classifier(
    settings: SubgenreSettings, data: SubgenreData, modalities: tuple[str, ...], seed: int, folder: str
) -> Classifier:
    """Trains on `modalities` of the training tracks; goes on from the last checkpoint in `folder`, or loads the model.

    What is tuned on validation tracks is saved with the model; without any, each threshold is 0.5.
    """
    if (Path(folder) / FINISHED).is_file() and settings.resume == "auto":
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
        return Classifier(model.eval(), AutoProcessor.from_pretrained(folder), modalities)
    settings = copy.copy(settings)
    settings.seed, settings.output_dir = seed, folder
    kept = {split: [one.keep(modalities) for one in data.examples[split]] for split in ("train", "validation")}
    train = [example for example in kept["train"] if not example.is_empty]
    if not train:
        raise ValueError(f"no training track has {' or '.join(modalities)}")
    texts = [text for example in train for text in _texts(example)]
    model, processor = load_classifier(settings, data.tree, texts, data.audio_dim)
    fit_to_data(model, train, data)
    trainer = build_trainer(model, processor, train, kept["validation"], data, settings)
    trainer.train(resume_from_checkpoint=settings.resume)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model = (model.merge_and_unload() if settings.lora else model).eval()
    if trainer.gold is not None:
        tune_on_validation(model, trainer.eval_dataset, trainer.gold, processor.tokenizer.pad_token_id)
    if trainer.accelerator.is_main_process:
        save_classifier(model, processor, Path(folder))
    trainer.accelerator.wait_for_everyone()
    return Classifier(model, processor, modalities)


def fit_to_data(model: PreTrainedModel, train: Sequence[Example], data: SubgenreData) -> None:
    """Tells a model its captioner, and a new one the scale of that captioner's embeddings and what is common."""
    config = model.config
    if data.captioner is not None:
        digest = hash_captioner(find_model(data.captioner))
        if config.captioner_hash not in (None, digest):
            raise ValueError(
                f"--init_from was trained with the captioner {config.captioner}, and {data.captioner} has other "
                "weights: pass the same --captioner"
            )
        config.captioner, config.captioner_hash = data.captioner, digest
        config.questions, config.captioner_generation = list(data.questions), dict(data.generation)
    if model.name_or_path:  # a loaded one knows both
        return
    embeds = [torch.from_numpy(one.audio_embeds.copy()) for one in train if one.audio_embeds is not None]
    if embeds:
        model.fit_audio_scale(torch.stack(embeds))
    if config.fusion == "late":
        set_prior(model, torch.from_numpy(np.stack([one.labels for one in train])))


def build_trainer(
    model: PreTrainedModel, processor: SubgenreProcessor, train: Sequence[Example], validation: Sequence[Example],
    data: SubgenreData, settings: SubgenreSettings,
) -> SubgenreTrainer:  # fmt: skip
    inputs = ExampleInputs(train, processor)
    plan = plan_stages([STAGE], {STAGE.config: np.arange(len(inputs))}, settings.num_train_epochs)
    curriculum = CurriculumSampler(
        plan, np.arange(len(inputs)), inputs.lengths, batch_size=rows_per_step(settings), seed=settings.seed
    )
    set_steps(settings, curriculum)
    model = add_lora(model, settings.lora_rank) if settings.lora else model
    collator = ExampleCollator(processor.tokenizer.pad_token_id, settings.train_windows, settings.seed)
    return SubgenreTrainer(
        curriculum=curriculum, gold=data.gold("validation"), model=model, args=settings, train_dataset=inputs,
        eval_dataset=ExampleInputs(validation, processor), data_collator=collator, processing_class=processor,
    )  # fmt: skip


def save_classifier(model: PreTrainedModel, processor: SubgenreProcessor, folder: Path) -> None:
    """The model folder; `FINISHED` in it says that it is whole."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / FINISHED).touch()


def _texts(example: Example) -> list[str]:
    return [*([example.lyrics] if example.lyrics else []), *(example.captions or ())]
