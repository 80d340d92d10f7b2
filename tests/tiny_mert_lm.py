"""Two parts of kilobytes on disk, as a Hub would hold them, and a MertLM joined from them."""

from pathlib import Path

import torch
from tiny import TEXTS
from transformers import PreTrainedModel, Wav2Vec2FeatureExtractor

from descant.models.mert_lm import MertLMProcessor, join_parts
from descant.training.start_mert_lm import new_tiny

WINDOW_S = 1.0
QUESTIONS = ("What is the genre?", "Which instruments play in this piece of music?", None)
MORE_TEXTS = ("You listen to music and answer questions about it.", "Describe this music.", "system user assistant")


def save_parts(folder: Path, seed: int = 0) -> tuple[str, str]:
    """Writes an audio encoder and a language model; returns their folders.

    Their weights are large, so that small differences of what is heard change what is said.
    """
    torch.manual_seed(seed)
    model, processor = new_tiny([*TEXTS, *MORE_TEXTS], window_s=WINDOW_S)
    enlarge(model.language_model, 0.5)
    model.audio_encoder.save_pretrained(folder / "encoder")
    Wav2Vec2FeatureExtractor(sampling_rate=24_000).save_pretrained(folder / "encoder")
    model.language_model.save_pretrained(folder / "language_model")
    processor.tokenizer.save_pretrained(folder / "language_model")
    return str(folder / "encoder"), str(folder / "language_model")


def join_tiny(parts: tuple[str, str], seed: int = 0, **settings: object) -> tuple[PreTrainedModel, MertLMProcessor]:
    """A model with a random projector that answers in at most 8 tokens."""
    torch.manual_seed(seed)
    model, processor = join_parts(*parts, window_s=WINDOW_S, **settings)
    enlarge(model.projector, 1.0)
    model.generation_config.max_new_tokens = 8
    return model.eval(), processor


def save_tiny_mert_lm(folder: Path, **settings: object) -> Path:
    """Writes a joined model's folder beside its parts, and returns it."""
    model, processor = join_tiny(save_parts(folder / "parts"), **settings)
    model.save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    return folder / "model"


@torch.no_grad()
def enlarge(module: torch.nn.Module, spread: float) -> None:
    for weight in module.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=spread)
