"""Trains one classifier on some of the modalities, tunes it on validation tracks, saves it; loads a finished one."""

import copy
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoProcessor,
    AutoTokenizer,
    DistilBertConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    set_seed,
)

from descant.answering.model_folder import find_model
from descant.hub_client import load_patiently
from descant.models.subgenre import SubgenreConfig, SubgenreForSequenceClassification, SubgenreProcessor
from descant.models.subgenre.configuration_subgenre import MODALITIES
from descant.subgenre.examples import (
    Example,
    ExampleCollator,
    ExampleInputs,
    SubgenreData,
    decide,
    mark_visible,
    predict_probabilities,
)
from descant.subgenre.hearing import hash_captioner
from descant.subgenre.label_scores import GoldLabels, LabelPredictions, genre_accuracy, genre_macro_f1, subgenre_map
from descant.subgenre.labels import LabelTree, split_label
from descant.subgenre.settings import SubgenreSettings
from descant.subgenre.tuning import set_prior, tune_on_validation
from descant.training.curriculum import CurriculumSampler, plan_stages, rows_per_step, set_steps, validate_nothing
from descant.training.finite_loss import FiniteLoss
from descant.training.progress import show_run
from descant.training.recipe import Stage
from descant.training.saving import AtomicSaving
from descant.training.start import naming_failures, train_tokenizer
from descant.training.trainer import add_lora

log = logging.getLogger(__name__)


def load_classifier(
    settings: SubgenreSettings, tree: LabelTree, texts: Iterable[str], audio_dim: int
) -> tuple[PreTrainedModel, SubgenreProcessor]:
    """The model and processor to train, in float32, from `init_from`, around `text_encoder`, or new and small.

    Args:
        texts: the training tracks' lyrics and captions, from which a small encoder's tokenizer is made.

    Raises:
        ValueError: something cannot be loaded, or a classifier to start from has other labels.
    """
    set_seed(settings.seed)
    if settings.init_from:
        return _load(settings.init_from, tree)
    if settings.text_encoder:
        with naming_failures(f"--text_encoder {settings.text_encoder}"):
            load = partial(AutoModel.from_pretrained, settings.text_encoder, dtype=torch.float32)
            encoder = load_patiently(load, settings.text_encoder)
            tokenizer = AutoTokenizer.from_pretrained(settings.text_encoder)
        text_config = encoder.config
    else:
        encoder, tokenizer = None, train_tokenizer(texts, settings.vocabulary)
        text_config = small_encoder(settings, tokenizer)
    config = SubgenreConfig(
        text_config=text_config.to_dict(), label_tree=branches(tree), audio_dim=audio_dim,
        hidden_size=settings.hidden_size, fusion=settings.fusion, dropout=settings.dropout,
        modality_dropout=settings.modality_dropout, token_dropout=settings.token_dropout,
    )  # fmt: skip
    model = SubgenreForSequenceClassification(config)
    if encoder is not None:
        model.text_encoder.load_state_dict(encoder.state_dict())
    return model, SubgenreProcessor(tokenizer, settings.window_tokens, settings.overlap_tokens, audio_dim)


def branches(tree: LabelTree) -> dict[str, list[str]]:
    """The tree as the model's configuration has it."""
    names: dict[str, list[str]] = {genre: [] for genre in tree.genres}
    for label in tree.subgenres:
        genre, name = split_label(label)
        names[genre].append(name)
    return names


def small_encoder(settings: SubgenreSettings, tokenizer: PreTrainedTokenizerBase) -> DistilBertConfig:
    """A fresh text encoder that trains in seconds; with 0 layers it is a bag of token embeddings."""
    width = settings.text_hidden_size
    return DistilBertConfig(
        vocab_size=len(tokenizer), dim=width, hidden_dim=2 * width, n_layers=settings.text_layers, n_heads=4,
        max_position_embeddings=max(256, settings.window_tokens), dropout=settings.dropout,
        attention_dropout=settings.dropout, initializer_range=0.1, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip


def _load(source: str, tree: LabelTree) -> tuple[PreTrainedModel, SubgenreProcessor]:
    with naming_failures(f"--init_from {source}"):
        load = partial(AutoModelForSequenceClassification.from_pretrained, source, dtype=torch.float32)
        model = load_patiently(load, source)
        processor = AutoProcessor.from_pretrained(source)
    labels = [*model.config.genres, *model.config.subgenres]
    if labels != [*tree.genres, *tree.subgenres]:
        raise ValueError(
            f"--init_from {source} knows {len(labels)} labels, others than those of this tree: start "
            "a new classifier, or pass the --label_tree that it was trained with"
        )
    return model, processor


SCORES = {"genre_accuracy": genre_accuracy, "genre_macro_f1": genre_macro_f1, "subgenre_map": subgenre_map}


class SubgenreTrainer(FiniteLoss, AtomicSaving, Trainer):
    """Trains on `ExampleInputs`; `evaluate` scores without thresholds, which are tuned after training."""

    def __init__(self, *, curriculum: CurriculumSampler, gold: GoldLabels | None, **kwargs: Any) -> None:
        """
        curriculum: the order of the training tracks over the whole run. gold: the labels of `eval_dataset`; None where
        there are no validation tracks. kwargs: those of `transformers.Trainer`.
        """
        self.curriculum, self.gold = curriculum, gold
        if gold is None:
            validate_nothing(kwargs["args"])
        super().__init__(**kwargs)
        show_run(self, self.place, "cross entropy (nats a track)")

    def _get_train_sampler(self, train_dataset: Any = None) -> CurriculumSampler:
        return self.curriculum

    def describe_rows(self, rows: list[int]) -> str:
        """The tracks of a batch, for the message of a loss that is not finite."""
        return "tracks " + ", ".join(self.train_dataset.examples[row].track_id for row in rows)

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Cross entropy of all labels (nats a track), genre accuracy and macro-F1, subgenre mAP on validation."""
        if self.gold is None:
            return {}
        metrics = score_probabilities(self.predict_validation(), self.eval_dataset, self.gold)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def predict_validation(self) -> np.ndarray:
        model = self.accelerator.unwrap_model(self.model)
        pad = self.data_collator.pad_token_id
        return predict_probabilities(model, self.eval_dataset, pad, self.args.per_device_eval_batch_size)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """`epoch` counts the curriculum's epochs, not passes over the whole run."""
        logs["stage"], self.state.epoch = self.place()
        super().log(logs, start_time)

    def place(self) -> tuple[str, float]:
        """Stage and epoch reached."""
        return self.curriculum.stage_at(self.state.global_step * rows_per_step(self.args))


def score_probabilities(probabilities: np.ndarray, examples: ExampleInputs, gold: GoldLabels) -> dict[str, float]:
    """`loss` in nats a track, and the scores that need no thresholds."""
    truth = examples.labels
    likely = torch.from_numpy(probabilities).clamp(1e-6, 1 - 1e-6)
    loss = functional.binary_cross_entropy(likely, truth, reduction="none").sum(dim=1).mean()
    genres = len(gold.tree.genres)
    told = LabelPredictions(probabilities[:, :genres], probabilities[:, genres:], np.zeros_like(gold.subgenres))
    weights = np.ones((1, len(truth)))
    return {"loss": float(loss)} | {name: float(score(gold, told)(weights)[0]) for name, score in SCORES.items()}


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
