"""A model small enough to answer in milliseconds, and recordings whose windows it answers differently."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile
import torch
from peft import LoraConfig, get_peft_model
from small_sizes import small_config
from transformers import AutoModelForMultimodalLM, AutoProcessor

from descant.models.lp_music_caps import (
    LPMusicCapsFeatureExtractor,
    LPMusicCapsForConditionalGeneration,
    LPMusicCapsProcessor,
)
from descant.models.lp_music_caps.decision_music import MusicDecisionConfig, QuestionType
from descant.training.music_reference import fit_reference
from descant.training.start import train_tokenizer

TEXTS = ("What is the genre?", "Which instruments play?", "a slow piano and drums", "jazz rock with a loud guitar")


def build_tiny_model(seed: int = 0) -> tuple[LPMusicCapsForConditionalGeneration, LPMusicCapsProcessor]:
    """A random model; its weights are large, so that small differences of what it hears change what it says."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(TEXTS)
    config = small_config(vocab_size=len(tokenizer), d_model=16, layers=1, heads=2, init_std=1.0)
    model = LPMusicCapsForConditionalGeneration(config).eval()
    model.generation_config.update(max_length=8, num_beams=2)
    return model, LPMusicCapsProcessor(LPMusicCapsFeatureExtractor(), tokenizer)


def save_tiny_model(folder: Path, seed: int = 0) -> Path:
    """Writes the model folder, and returns it."""
    model, processor = build_tiny_model(seed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_tiny_adapter(base: Path, folder: Path, with_processor: bool = True) -> Path:
    """Write a folder with a random LoRA adapter of the model in `base`, as a recipe writes it, and return it."""
    model = AutoModelForMultimodalLM.from_pretrained(base)
    config = LoraConfig(
        r=2, target_modules=model.lora_target_modules, modules_to_save=list(model.lora_modules_to_save)
    )
    config.base_model_name_or_path = str(base)
    adapted = get_peft_model(model, config)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight += 0.3 * torch.randn_like(weight)
    adapted.save_pretrained(folder)
    model.save_beside_adapter(str(folder))
    if with_processor:
        AutoProcessor.from_pretrained(base).save_pretrained(folder)
    return folder


def save_tiny_decider(folder: Path, seed: int = 0, threshold: float = 0.0) -> Path:
    """Write a model folder whose model answers typed questions about genre and drums, and return it.

    To it, music is what sounds like the songs of `write_song`.
    """
    songs = [climb(10.0, 16_000, 110.0 * 1.5**step) for step in range(-2, 8)]
    noise = list(np.random.default_rng(0).normal(size=(4, 160_000)))
    reference = fit_reference(songs, songs, 16_000, others=noise)
    model, processor = build_tiny_model(seed)
    genre = QuestionType(
        questions=["What is the genre?"], answers={"jazz": ["jazz"], "rock": ["rock"], "piano": ["a slow piano"]},
        carriers=["a {option} piano"], threshold=threshold, decisions=10,
    )  # fmt: skip
    drums = QuestionType(
        questions=["Are there drums?"], answers={"drums": ["drums"], "no drums": ["a guitar"]}, threshold=threshold
    )
    types = {"genre": asdict(genre), "drums": asdict(drums)}
    model.decision_config = MusicDecisionConfig(question_types=types, reference=asdict(reference))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def climb(seconds: float, rate: int, start_hertz: float) -> np.ndarray:
    """Return a tone (samples,) that climbs a fifth every 5 s, so that no two windows sound alike."""
    times = np.arange(round(seconds * rate)) / rate
    return 0.3 * np.sin(2 * np.pi * start_hertz * 1.5 ** np.floor(times / 5) * times)


def write_song(path: Path, seconds: float = 25.0, rate: int = 44_100, start_hertz: float = 110.0) -> Path:
    """Writes a tone that climbs a fifth every 5 s, so that no two windows sound alike."""
    soundfile.write(path, climb(seconds, rate, start_hertz), rate)
    return path
