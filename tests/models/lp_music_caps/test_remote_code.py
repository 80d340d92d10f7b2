"""Tests that a saved folder carries its code: it loads in a process of its own where descant cannot be imported."""

from pathlib import Path

import numpy as np
import torch
from forked_python import run_forked

from descant.models.lp_music_caps import LPMusicCapsForConditionalGeneration, LPMusicCapsProcessor

LOAD_WITHOUT_DESCANT = """
import sys

sys.modules["descant"] = None  # importing it now raises ImportError
import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoProcessor
from transformers import AutoModelForMultimodalLM, AutoModelForSeq2SeqLM

torch.set_num_threads(1)
folder = sys.argv[1]
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True)
waveform, expected = torch.load(folder + "/expected.pt")
inputs = processor(audio=[waveform.numpy()], text=["Is it fast?"], sampling_rate=16000, return_tensors="pt")
assert torch.equal(model.generate(**inputs), expected)
assert AutoConfig.from_pretrained(folder, trust_remote_code=True).model_type == "lp_music_caps"
assert AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True).feature_shape == [128, 1001]
assert type(AutoModelForMultimodalLM.from_pretrained(folder, trust_remote_code=True)).__name__ == type(model).__name__
model.save_pretrained(folder + "/again")
processor.save_pretrained(folder + "/again")
again = AutoModelForSeq2SeqLM.from_pretrained(folder + "/again", trust_remote_code=True)
assert torch.equal(again.generate(**inputs), expected)
assert not any(name.startswith("descant.") for name in sys.modules)
"""


def test_a_saved_folder_loads_and_answers_without_descant(
    model: LPMusicCapsForConditionalGeneration,
    processor: LPMusicCapsProcessor,
    waveforms: list[np.ndarray],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "model"
    model.generation_config.max_length = 12
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    inputs = processor(audio=waveforms[:1], text=["Is it fast?"], sampling_rate=16000, return_tensors="pt")
    torch.save((torch.from_numpy(waveforms[0]), model.generate(**inputs)), folder / "expected.pt")
    done = run_forked("-c", LOAD_WITHOUT_DESCANT, folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not covered" not in done.stderr  # by the fast search, which the folder carries along
