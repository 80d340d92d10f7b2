"""A subgenre classifier small enough to run in milliseconds, and tracks for it."""

from pathlib import Path
from typing import Any

import torch
from tiny import save_tiny_adapter, save_tiny_decider, save_tiny_model
from transformers import DistilBertConfig

from descant.models.subgenre import SubgenreConfig, SubgenreForSequenceClassification, SubgenreProcessor
from descant.training.start import train_tokenizer

TREE = {"rock": ["punk", "blues"], "jazz": ["bebop", "swing", "blues"], "ambient": []}
LYRICS = "We drive all night on broken strings\nand nobody knows the words we sing"
CAPTIONS = ["A loud guitar over fast drums.", "The mood is restless."]
AUDIO_DIM = 6
WINDOW_TOKENS = 12


def build_tiny_subgenre(
    seed: int = 0, fusion: str = "late", **settings: Any
) -> tuple[SubgenreForSequenceClassification, SubgenreProcessor]:
    """A random model, in eval mode; its weights are large, so that all that it is given changes what it says."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer([LYRICS, *CAPTIONS])
    text = DistilBertConfig(
        vocab_size=len(tokenizer), dim=8, n_layers=1, n_heads=2, hidden_dim=16, max_position_embeddings=WINDOW_TOKENS,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    settings = {"audio_dim": AUDIO_DIM, "num_attention_heads": 2, "initializer_range": 0.5} | settings
    config = SubgenreConfig(text_config=text, label_tree=TREE, hidden_size=8, fusion=fusion, **settings)
    model = SubgenreForSequenceClassification(config).eval()
    return model, SubgenreProcessor(tokenizer, WINDOW_TOKENS, overlap_tokens=3, audio_dim=config.audio_dim)


def save_tiny_subgenre(folder: Path, **settings: Any) -> Path:
    """Writes the model folder, and returns it."""
    model, processor = build_tiny_subgenre(**settings)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def tracks() -> dict[str, list]:
    """Four tracks: with everything, without lyrics, without audio, with lyrics alone."""
    return {
        "lyrics": [LYRICS, None, LYRICS.upper(), "words words words " * 20],
        "captions": [CAPTIONS, CAPTIONS[1:], CAPTIONS[:1], None],
        "audio_embeds": [[0.5] * AUDIO_DIM, [-1.0, 1.0] * (AUDIO_DIM // 2), None, None],
    }


def save_every_kind(folder: Path, question: str) -> Path:
    """Saves a model, an adapter of it, one that decides, and a classifier with the model as its captioner."""
    save_tiny_adapter(save_tiny_model(folder / "model"), folder / "adapter")
    save_tiny_decider(folder / "decider")
    save_tiny_subgenre(folder / "subgenre", audio_dim=16, questions=[question], captioner=str(folder / "model"))
    return folder
