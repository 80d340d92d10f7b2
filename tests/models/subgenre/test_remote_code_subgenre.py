"""Tests that a saved classifier carries its code: it loads in a process where descant cannot be imported."""

from pathlib import Path

import torch
from forked_python import run_forked
from tiny import save_tiny_model, write_song
from tiny_subgenre import save_tiny_subgenre, tracks

from descant.models.subgenre import SubgenreForSequenceClassification, SubgenreProcessor

LOAD_WITHOUT_DESCANT = """
import sys

sys.modules["descant"] = None  # importing it now raises ImportError
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoProcessor, pipeline

torch.set_num_threads(1)
folder = sys.argv[1]
tracks, expected = torch.load(folder + "/expected.pt")
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
inputs = processor(**tracks, return_tensors="pt")
for source in (folder, folder + "/again"):
    model = AutoModelForSequenceClassification.from_pretrained(source, trust_remote_code=True)
    assert torch.equal(model(**inputs).logits, expected)
    model.save_pretrained(folder + "/again")
assert AutoConfig.from_pretrained(folder, trust_remote_code=True).genres == ["rock", "jazz", "ambient"]
classify = pipeline("music-subgenre-classification", model=folder, trust_remote_code=True, device="cpu")
found = classify({"audio": sys.argv[2]})  # the captioner's code is loaded too
assert found["captions"] and found["genres"]
assert not any(name.startswith("descant.") for name in sys.modules)
"""


def test_a_saved_folder_loads_and_scores_without_descant(tmp_path: Path) -> None:
    folder = save_tiny_subgenre(tmp_path / "model", audio_dim=16, captioner=str(save_tiny_model(tmp_path / "ears")))
    song = write_song(tmp_path / "song.wav", seconds=4)
    model = SubgenreForSequenceClassification.from_pretrained(folder)
    given = {name: tracks()[name] for name in ("lyrics", "captions")}
    inputs = SubgenreProcessor.from_pretrained(folder)(**given, return_tensors="pt")
    with torch.no_grad():
        torch.save((given, model(**inputs).logits), folder / "expected.pt")
    done = run_forked("-c", LOAD_WITHOUT_DESCANT, folder, song, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
