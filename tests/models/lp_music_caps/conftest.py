"""A small seeded model with a tokenizer trained on the spot, for the tests that need no published weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from answering_model import AnsweringModel, teach
from safetensors.torch import load_file
from small_sizes import small_config
from tokenizers import ByteLevelBPETokenizer
from transformers import BartTokenizer

from descant.models.lp_music_caps import (
    LPMusicCapsFeatureExtractor,
    LPMusicCapsForConditionalGeneration,
    LPMusicCapsProcessor,
)

TEXT = [
    "What instruments are heard in the song?",
    "Is it fast or slow?",
    "The song uses strings, brass and woodwinds over a steady drum beat.",
    "A calm piano melody with a slow tempo, and a low bass line below it.",
]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Models this small lose more to waking threads than they gain, and much more on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BartTokenizer:
    trainer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer.train_from_iterator(TEXT, vocab_size=320, min_frequency=1, special_tokens=special)
    folder = tmp_path_factory.mktemp("tokenizer")
    trainer.save_model(str(folder))
    return BartTokenizer.from_pretrained(folder, model_max_length=256)


@pytest.fixture(scope="session")
def processor(tokenizer: BartTokenizer) -> LPMusicCapsProcessor:
    return LPMusicCapsProcessor(LPMusicCapsFeatureExtractor(), tokenizer)


@pytest.fixture
def model(tokenizer: BartTokenizer) -> LPMusicCapsForConditionalGeneration:
    torch.manual_seed(0)
    config = small_config(vocab_size=len(tokenizer), d_model=32, heads=2)
    return LPMusicCapsForConditionalGeneration(config).eval()


@pytest.fixture(scope="session")
def taught(one_thread: None) -> AnsweringModel:
    return teach()


@pytest.fixture(scope="session")
def waveforms() -> list[np.ndarray]:
    """Three clips of 10, 4 and 7 s: tones with noise, at 16 kHz."""
    noise = np.random.default_rng(0)
    clips = []
    for seconds, pitch in ((10, 220.0), (4, 440.0), (7, 880.0)):
        time = np.arange(seconds * 16000) / 16000
        tone = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.02 * noise.standard_normal(time.size)
        clips.append(tone.astype(np.float32))
    return clips


@pytest.fixture(scope="session")
def questions() -> list[str]:
    """Questions of many lengths."""
    words = " ".join(TEXT).split()
    return [" ".join(words[start : start + 1 + start % 7]) + "?" for start in range(24)]


class Reference:
    """One small checkpoint of the reference with what it heard and gave."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.expected = load_file(folder / "expected.safetensors")
        self.cases = json.loads((folder / "expected.json").read_text())
        self.waveforms = np.load(folder / "waveform_int16.npy").astype(np.float32) / 32768


@pytest.fixture(scope="session", params=["lp_music_caps_tiny", "lp_music_caps_tiny_undertrained"])
def reference(shared_dir: Path, request: pytest.FixtureRequest) -> Reference:
    return Reference(shared_dir / "reference" / request.param)
