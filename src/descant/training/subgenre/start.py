"""The classifier a run starts from: a saved one, or a new one around a text encoder of any size."""

import logging
from collections.abc import Iterable

import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoProcessor,
    AutoTokenizer,
    DistilBertConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from descant.data.tracks import LabelTree, split_label
from descant.models.subgenre import SubgenreConfig, SubgenreForSequenceClassification, SubgenreProcessor
from descant.training.start import naming_failures, train_tokenizer
from descant.training.subgenre.settings import SubgenreSettings

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
            encoder = AutoModel.from_pretrained(settings.text_encoder, dtype=torch.float32)
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
        model = AutoModelForSequenceClassification.from_pretrained(source, dtype=torch.float32)
        processor = AutoProcessor.from_pretrained(source)
    labels = [*model.config.genres, *model.config.subgenres]
    if labels != [*tree.genres, *tree.subgenres]:
        raise ValueError(
            f"--init_from {source} knows {len(labels)} labels, others than those of this tree: start "
            "a new classifier, or pass the --label_tree that it was trained with"
        )
    return model, processor
