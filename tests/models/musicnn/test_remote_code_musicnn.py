"""Tests that a saved folder carries its code: it loads in a process of its own where descant cannot be imported."""

from pathlib import Path

import numpy as np
import torch
from forked_python import run_forked
from plain_musicnn import small_model

from descant.models.musicnn import MusicnnFeatureExtractor

LOAD_WITHOUT_DESCANT = """
import sys

sys.modules["descant"] = None  # importing it now raises ImportError
import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

torch.set_num_threads(1)
folder = sys.argv[1]
extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
waveform, expected = torch.load(folder + "/expected.pt")
inputs = extractor(waveform.numpy(), sampling_rate=16000, return_tensors="pt")
assert torch.equal(model(**inputs).last_hidden_state, expected)
assert AutoConfig.from_pretrained(folder, trust_remote_code=True).hidden_size == 34
model.save_pretrained(folder + "/again")
again = AutoModel.from_pretrained(folder + "/again", trust_remote_code=True)
assert torch.equal(again(**inputs).last_hidden_state, expected)
assert not any(name.startswith("descant.") for name in sys.modules)
"""


def test_a_saved_folder_loads_and_hears_without_descant(tmp_path: Path) -> None:
    model, extractor = small_model(), MusicnnFeatureExtractor(window_s=1.0, num_mel_bins=12)
    model.save_pretrained(tmp_path / "model")
    extractor.save_pretrained(tmp_path / "model")
    waveform = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    states = model(**extractor(waveform, sampling_rate=16_000, return_tensors="pt")).last_hidden_state
    torch.save((torch.from_numpy(waveform), states.detach()), tmp_path / "model/expected.pt")
    done = run_forked("-c", LOAD_WITHOUT_DESCANT, tmp_path / "model", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
