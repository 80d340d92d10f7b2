"""Trains one classifier on some of the modalities, tunes it on validation tracks, saves it; loads a finished one."""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

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
    TrainerCallback,
    set_seed,
)

from descant.answering.model_folder import find_model, fingerprint_model
from descant.hub_client import load_patiently
from descant.models import box
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
from descant.subgenre.label_scores import GoldLabels, LabelPredictions, genre_accuracy, genre_macro_f1, subgenre_map
from descant.subgenre.labels import LabelTree
from descant.subgenre.recipe import SubgenreRecipe
from descant.subgenre.tuning import set_prior, tune_on_validation
from descant.training.recipe import Idle, ModelOptions, Stage
from descant.training.saving import whole_model
from descant.training.settings import NO_MODEL, Job, RunSettings
from descant.training.start import add_lora, describe_model, naming_failures, train_tokenizer
from descant.training.trainer import CurriculumTrainer
from descant.training.training_data import CurriculumSampler, plan_stages, plan_steps, rows_per_step

log = logging.getLogger(__name__)


@dataclass
class SubgenreSettings(RunSettings):
    """The settings of a run that trains a classifier on tracks."""

    counts: ClassVar[dict[str, int]] = RunSettings.counts | {"max_tracks": 0, "seeds": 1}
    identity: ClassVar[tuple[str, ...]] = (*RunSettings.identity, "label_tree", "captioner", "max_tracks")

    label_tree: str | None = field(default=None, metadata={"help": "JSON file of genres and their subgenres"})
    max_tracks: int = field(default=0, metadata={"help": "use only this many tracks of each split (0: all)"})
    captioner: str | None = field(
        default=None, metadata={"help": "Hub id or folder of the model that captions the audio, box or none"}
    )
    compare: bool = field(
        default=True, metadata={"help": "train the single modalities beside it, each with all seeds, for the table"}
    )
    seeds: int = field(default=3, metadata={"help": "seeds of each system in the table, from `seed` on"})

    def __post_init__(self) -> None:
        """Resolve the names of captioners that are no folders."""
        super().__post_init__()
        self.captioner = {NO_MODEL: None, box.NAME: str(box.FOLDER)}.get(str(self.captioner), self.captioner)


@dataclass
class SubgenreOptions(ModelOptions):
    """Options of subgenre classifiers."""

    kind: ClassVar[str] = "subgenre"
    title: ClassVar[str] = "subgenre"
    counts: ClassVar[dict[str, int]] = {
        "text_layers": 0, "text_hidden_size": 1, "vocabulary": 1, "hidden_size": 1, "window_tokens": 1,
        "overlap_tokens": 0, "train_windows": 1, "audio_hidden_size": 0,
    }  # fmt: skip
    shapes: ClassVar[tuple[str, ...]] = (
        "text_encoder", "text_layers", "text_hidden_size", "vocabulary", "fusion", "hidden_size", "dropout",
        "audio_hidden_size", "audio_dropout",
        "modality_dropout", "token_dropout", "window_tokens", "overlap_tokens",
    )  # fmt: skip

    text_encoder: str | None = field(
        default=None, metadata={"help": "Hub id or folder of any AutoModel text encoder (default: a new small one)"}
    )
    text_layers: int = field(default=1, metadata={"help": "transformer layers of a new small text encoder"})
    text_hidden_size: int = field(default=64, metadata={"help": "width of a new small text encoder"})
    vocabulary: int = field(default=4000, metadata={"help": "tokens of a new small text encoder"})
    fusion: str = field(
        default="late", metadata={"help": "how modalities meet", "choices": ["late", "cross_attention"]}
    )
    hidden_size: int = field(default=128, metadata={"help": "width in which the modalities meet"})
    dropout: float = field(default=0.1, metadata={"help": "dropout of the classifier and of a new text encoder"})
    audio_hidden_size: int = field(
        default=0, metadata={"help": "width of a hidden layer that reads the audio embedding (0: none)"}
    )
    audio_dropout: float = field(default=0.0, metadata={"help": "dropout of the audio embedding and of that layer"})
    modality_dropout: float = field(
        default=0.3, metadata={"help": "chance that training hides a modality from cross attention"}
    )
    token_dropout: float = field(default=0.0, metadata={"help": "chance that training hides a token of a text"})
    window_tokens: int = field(default=128, metadata={"help": "longest window of text"})
    overlap_tokens: int = field(default=16, metadata={"help": "tokens that neighbouring windows share"})
    train_windows: int = field(
        default=16, metadata={"help": "windows of a text that one training step reads, drawn anew each epoch"}
    )

    @property
    def base_model(self) -> str | None:
        """The model whose weights a new one takes over."""
        return self.text_encoder

    def find_idle(self, given: Collection[str], init_from: str | None) -> Idle:
        """Yield the given options that would do nothing beside the others, with the reason."""
        yield from super().find_idle(given, init_from)
        if self.text_encoder:
            for name in ("text_layers", "text_hidden_size", "vocabulary"):
                yield name, "shapes a new text encoder, and --text_encoder gives one"
        if self.fusion == "late":
            yield "modality_dropout", "does nothing with --fusion late"


SubgenreJob = Job[SubgenreRecipe, SubgenreSettings, SubgenreOptions]


def load_classifier(
    options: SubgenreOptions, tree: LabelTree, texts: Iterable[str], audio_dim: int, *, seed: int,
    init_from: str | None = None,
) -> tuple[PreTrainedModel, SubgenreProcessor]:  # fmt: skip
    """Return the model and processor to train, in float32: a loaded one, or a new one around a text encoder.

    Args:
        options: shape and dropout of a new one.
        texts: the training tracks' lyrics and captions, from which a small encoder's tokenizer is made.
        audio_dim: width of the captioner's audio embeddings.
        seed: of a new one's weights.
        init_from: Hub id or folder of a classifier to load.

    Raises:
        ValueError: something cannot be loaded, or a classifier to start from has other labels.
    """
    set_seed(seed)
    if init_from:
        return _load(init_from, tree)
    if options.text_encoder:
        with naming_failures(f"--text_encoder {options.text_encoder}"):
            load = partial(AutoModel.from_pretrained, options.text_encoder, dtype=torch.float32)
            encoder = load_patiently(load, options.text_encoder)
            tokenizer = AutoTokenizer.from_pretrained(options.text_encoder)
        text_config = encoder.config
    else:
        encoder, tokenizer = None, train_tokenizer(texts, options.vocabulary)
        text_config = small_encoder(options, tokenizer)
    branches = {genre: list(names) for genre, names in tree.branches.items()}
    config = SubgenreConfig(
        text_config=text_config.to_dict(), label_tree=branches, audio_dim=audio_dim,
        hidden_size=options.hidden_size, fusion=options.fusion, dropout=options.dropout,
        modality_dropout=options.modality_dropout, token_dropout=options.token_dropout,
        audio_hidden_size=options.audio_hidden_size, audio_dropout=options.audio_dropout,
    )  # fmt: skip
    model = SubgenreForSequenceClassification(config)
    if encoder is not None:
        model.text_encoder.load_state_dict(encoder.state_dict())
    return model, SubgenreProcessor(tokenizer, options.window_tokens, options.overlap_tokens, audio_dim)


def small_encoder(options: SubgenreOptions, tokenizer: PreTrainedTokenizerBase) -> DistilBertConfig:
    """Configure a text encoder that trains in seconds; with 0 layers it is a bag of token embeddings."""
    width = options.text_hidden_size
    return DistilBertConfig(
        vocab_size=len(tokenizer), dim=width, hidden_dim=2 * width, n_layers=options.text_layers, n_heads=4,
        max_position_embeddings=max(256, options.window_tokens), dropout=options.dropout,
        attention_dropout=options.dropout, initializer_range=0.1, pad_token_id=tokenizer.pad_token_id,
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


# The scores that need no thresholds.
THRESHOLD_FREE = {"genre_accuracy": genre_accuracy, "genre_macro_f1": genre_macro_f1, "subgenre_map": subgenre_map}


class SubgenreTrainer(CurriculumTrainer):
    """Trains on `ExampleInputs`; `evaluate` scores without thresholds, which are tuned after training.

    gold: the labels of `eval_dataset`, None where there are no validation tracks. kwargs: those of
    `CurriculumTrainer`.
    """

    def __init__(self, *, gold: GoldLabels | None, **kwargs: Any) -> None:
        self.gold = gold
        super().__init__(loss_name="cross entropy (nats a track)", **kwargs)

    def describe_rows(self, rows: list[int]) -> str:
        """Return the tracks of a batch, for the message of a loss that is not finite."""
        return "tracks " + ", ".join(self.train_dataset.examples[row].track_id for row in rows)

    def measure(self) -> dict[str, float] | None:
        """Return the loss on the validation tracks, and the scores that need no thresholds."""
        if self.gold is None:
            return None
        model, pad = self.accelerator.unwrap_model(self.model), self.data_collator.pad_token_id
        probabilities = predict_probabilities(model, self.eval_dataset, pad, self.args.per_device_eval_batch_size)
        return score_probabilities(probabilities, self.eval_dataset, self.gold)


def score_probabilities(probabilities: np.ndarray, examples: ExampleInputs, gold: GoldLabels) -> dict[str, float]:
    """Return `loss` in nats a track, and the scores that need no thresholds."""
    truth = examples.labels
    likely = torch.from_numpy(probabilities).clamp(1e-6, 1 - 1e-6)
    loss = functional.binary_cross_entropy(likely, truth, reduction="none").sum(dim=1).mean()
    genres = len(gold.tree.genres)
    parts = probabilities[:, :genres], probabilities[:, genres:]
    predictions = LabelPredictions(*parts, chosen=np.zeros_like(gold.subgenres))
    weights = np.ones((1, len(truth)))
    scores = {name: float(score(gold, predictions)(weights)[0]) for name, score in THRESHOLD_FREE.items()}
    return {"loss": float(loss), **scores}


FINISHED = ".finished"
STAGE = Stage("subgenre", 1)


@dataclass(frozen=True)
class Classifier:
    """A trained model with its processor; it was trained on some of the modalities."""

    model: PreTrainedModel
    processor: SubgenreProcessor
    modalities: tuple[str, ...]

    def read(self, examples: Sequence[Example]) -> ExampleInputs:
        """Prepare examples as the model's inputs, with the modalities that it was trained on."""
        return ExampleInputs([example.keep(self.modalities) for example in examples], self.processor)

    def predict(self, inputs: ExampleInputs, modalities: Collection[str] = MODALITIES) -> LabelPredictions:
        """Predict labels of what `read` returned; modalities: those that are not hidden."""
        pad = self.processor.tokenizer.pad_token_id
        probabilities = predict_probabilities(self.model, inputs, pad, modalities=modalities)
        return decide(probabilities, self.model.config, inputs.there * mark_visible(modalities))


def train_classifier(
    settings: SubgenreSettings, options: SubgenreOptions, data: SubgenreData, modalities: tuple[str, ...],
    callbacks: Sequence[TrainerCallback] = (),
) -> Classifier:  # fmt: skip
    """Train on `modalities` of the training tracks, from the last checkpoint in `settings.output_dir` on.

    A finished model there is loaded. What is tuned on validation tracks is saved with the model; without any, each
    threshold is 0.5.
    """
    folder = Path(settings.output_dir)
    if (folder / FINISHED).is_file() and settings.resume == "auto":
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
        return Classifier(model.eval(), AutoProcessor.from_pretrained(folder), modalities)
    examples = {split: [one.keep(modalities) for one in data.examples[split]] for split in ("train", "validation")}
    train = [example for example in examples["train"] if not example.is_empty]
    if not train:
        raise ValueError(f"no training track has {' or '.join(modalities)}")
    texts = [text for example in train for text in _texts(example)]
    model, processor = load_classifier(
        options, data.tree, texts, data.audio_dim, seed=settings.seed, init_from=settings.init_from
    )
    fit_to_data(model, train, data)
    trainer = build_trainer(model, processor, train, examples["validation"], data, settings, options.train_windows)
    for callback in callbacks:
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=settings.resume)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model = (model.merge_and_unload() if settings.lora else model).eval()
    if trainer.gold is not None:
        tune_on_validation(model, trainer.eval_dataset, trainer.gold, processor.tokenizer.pad_token_id)
    if trainer.accelerator.is_main_process:
        save_classifier(model, processor, folder)
    trainer.accelerator.wait_for_everyone()
    return Classifier(model, processor, modalities)


def fit_to_data(model: PreTrainedModel, train: Sequence[Example], data: SubgenreData) -> None:
    """Record the captioner in a model's config; give a new one the scale of its embeddings and the label shares."""
    config = model.config
    if data.captioner is not None:
        fingerprint = fingerprint_model(find_model(data.captioner))
        if config.captioner_hash not in (None, fingerprint):
            raise ValueError(
                f"--init_from was trained with the captioner {config.captioner}, and {data.captioner} is another one "
                f"({fingerprint} in place of {config.captioner_hash}): pass the same --captioner, or start a new model"
            )
        shipped = data.captioner == str(box.FOLDER)  # which lies elsewhere on another machine
        config.captioner, config.captioner_hash = box.NAME if shipped else data.captioner, fingerprint
        config.questions, config.captioner_generation = list(data.questions), dict(data.generation)
    if model.name_or_path:  # a loaded one has both
        return
    embeds = [torch.from_numpy(one.audio_embeds.copy()) for one in train if one.audio_embeds is not None]
    if embeds:
        model.fit_audio_scale(torch.stack(embeds))
    if config.fusion == "late":
        set_prior(model, torch.from_numpy(np.stack([one.labels for one in train])))


def build_trainer(
    model: PreTrainedModel, processor: SubgenreProcessor, train: Sequence[Example], validation: Sequence[Example],
    data: SubgenreData, settings: SubgenreSettings, train_windows: int,
) -> SubgenreTrainer:  # fmt: skip
    """Return the trainer of a classifier, with epochs worked out as steps."""
    inputs = ExampleInputs(train, processor)
    plan = plan_stages([STAGE], {STAGE.config: np.arange(len(inputs))}, settings.num_train_epochs)
    curriculum = CurriculumSampler(
        plan, np.arange(len(inputs)), inputs.lengths, batch_size=rows_per_step(settings), seed=settings.seed
    )
    gold = data.gold("validation")
    planned = plan_steps(settings, curriculum, validated=gold is not None)
    trained = add_lora(model, settings.lora_rank) if settings.lora else model
    log.info("%s: %s", settings.output_dir, describe_model(trained))
    return SubgenreTrainer(
        curriculum=curriculum, gold=gold, model=trained, args=planned, train_dataset=inputs,
        eval_dataset=ExampleInputs(validation, processor), processing_class=processor,
        data_collator=ExampleCollator(processor.tokenizer.pad_token_id, train_windows, settings.seed),
    )  # fmt: skip


def save_classifier(model: PreTrainedModel, processor: SubgenreProcessor, folder: Path) -> None:
    """Write the model folder; the file `.finished` in it marks it as whole."""
    with whole_model(folder) as staged:
        model.save_pretrained(staged)
        processor.save_pretrained(staged)
    (folder / FINISHED).touch()


def _texts(example: Example) -> list[str]:
    return [*([example.lyrics] if example.lyrics else []), *(example.captions or ())]
