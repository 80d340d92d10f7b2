"""A classifier with random weights, and examples that have some of the modalities."""

import numpy as np
import torch

from descant.models.subgenre import SubgenreConfig, SubgenreForSequenceClassification, SubgenreProcessor
from descant.subgenre.examples import Example
from descant.training.start import train_tokenizer

TREE = {"jazz": ["swing"], "pop": ["disco", "ballad"]}


def build_classifier(fusion: str) -> tuple[SubgenreForSequenceClassification, SubgenreProcessor]:
    """Its weights are large, so that all that it is given changes what it says."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["love in the rain", "a slow song"], 300)
    encoder = {"model_type": "distilbert", "vocab_size": len(tokenizer), "dim": 8, "n_layers": 1, "n_heads": 2}
    config = SubgenreConfig(
        text_config={**encoder, "hidden_dim": 8, "initializer_range": 0.5}, label_tree=TREE, audio_dim=3,
        hidden_size=8, fusion=fusion, initializer_range=0.5,
    )  # fmt: skip
    return SubgenreForSequenceClassification(config).eval(), SubgenreProcessor(tokenizer, 16, 2, 3)


def make_examples() -> list[Example]:
    """With everything, without lyrics, with lyrics alone, with nothing; of a jazz, two pop and another jazz track."""
    jazz, pop = (np.array(labels, np.float32) for labels in ([1, 0, 1, 0, 0], [0, 1, 0, 1, 0]))
    return [
        Example("a", "love in the rain", ("a slow song",), np.ones(3, np.float32), jazz),
        Example("b", None, ("a song",), np.array([1, -1, 2], np.float32), pop),
        Example("c", "rain", None, None, pop),
        Example("d", None, None, None, jazz),
    ]
