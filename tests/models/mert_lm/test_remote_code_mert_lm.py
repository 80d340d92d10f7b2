"""Folders of both stages are published, and answer alike where descant is not installed."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hub import LocalHub
from tiny import write_song
from tiny_mert_lm import join_tiny, save_parts
from transformers import AutoModelForMultimodalLM, AutoProcessor

from descant.hub_client import PublishError
from descant.publish.hub import publish_folder
from descant.training.start import add_lora

QUESTION = "What is the genre?"
# `None` in sys.modules makes the import fail, as where the package is not installed.
ELSEWHERE = """
import sys; sys.modules["descant"] = None
import json, soundfile
from transformers import AutoModelForMultimodalLM, AutoProcessor, pipeline
audio, rate = soundfile.read(sys.argv[1], dtype="float32")
found = []
for repo in ("tester/stage1", "tester/stage2"):
    model = AutoModelForMultimodalLM.from_pretrained(repo, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(repo, trust_remote_code=True)
    inputs = processor(audio=[audio], text=[sys.argv[2]], sampling_rate=rate, return_tensors="pt")
    found.append(model.generate(**inputs)[0].tolist())
listen = pipeline("music-question-answering", model="tester/stage2", trust_remote_code=True)
(answer,) = listen(sys.argv[1], question=sys.argv[2])
found.append(answer["answer"])
parts = [{"type": "audio", "path": sys.argv[1]}, {"type": "text", "text": sys.argv[2]}]
chat = pipeline("any-to-any", model="tester/stage2", trust_remote_code=True)
(said,) = chat([{"role": "user", "content": parts}], return_full_text=False)
assert said["generated_text"] == answer["answer"], (said, answer)
assert not any(name.startswith("descant.") for name in sys.modules)
print(json.dumps(found))
"""


def save_adapter(model: torch.nn.Module, folder: Path) -> None:
    """What stage 2 saves: an adapter, random here, and the names of the parts."""
    adapted = add_lora(model, 2)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight += 0.2 * torch.randn_like(weight)
    adapted.save_pretrained(folder)
    model.save_beside_adapter(str(folder))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of both stages beside their parts, and two songs."""
    place = tmp_path_factory.mktemp("mert_lm")
    model, processor = join_tiny(save_parts(place / "parts"), tokens_per_state=2)
    for stage in ("stage1", "stage2"):
        processor.save_pretrained(place / stage)
    model.save_pretrained(place / "stage1")
    save_adapter(model, place / "stage2")
    for stage in ("stage1", "stage2"):
        data = [{"id": "tester/free", "licence": "cc0-1.0", "clips": 3}]
        (place / stage / "training_data.json").write_text(json.dumps(data))
    (place / "songs").mkdir()
    write_song(place / "songs" / "b.wav", 1.0, 24_000, start_hertz=300.0)
    return place


def generate(folder: Path, samples: np.ndarray) -> list[int]:
    model, processor = AutoModelForMultimodalLM.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    inputs = processor(audio=[samples], text=[QUESTION], sampling_rate=24_000, return_tensors="pt")
    return model.generate(**inputs)[0].tolist()


def test_what_was_pushed_answers_alike_without_descant(place: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    song = place / "songs" / "b.wav"
    samples, _ = soundfile.read(song, dtype="float32")
    expected = [generate(place / stage, samples) for stage in ("stage1", "stage2")]
    assert expected[0] != expected[1]  # the adapter is heard
    with LocalHub() as hub:
        for part in ("encoder", "language_model"):
            hub.api().create_repo(f"tester/{part}")
            hub.api().upload_folder(repo_id=f"tester/{part}", folder_path=place / "parts" / part)
        with pytest.raises(PublishError, match="a folder of this machine"):
            publish_folder(place / "stage1", "tester/stage1", api=hub.api(), licence="apache-2.0")
        for stage in ("stage1", "stage2"):
            config = json.loads((place / stage / "config.json").read_text())
            named = {"audio_model_id": "tester/encoder", "text_model_id": "tester/language_model"}
            (place / stage / "config.json").write_text(json.dumps(config | named))
            with pytest.raises(PublishError, match="licence of tester/encoder, tester/language_model"):
                publish_folder(place / stage, f"tester/{stage}", api=hub.api())
            publish_folder(place / stage, f"tester/{stage}", api=hub.api(), licence="apache-2.0")
        card = hub.files("tester/stage2")["README.md"].decode()
        assert json.loads(hub.files("tester/stage2")["config.json"])["tokens_per_state"] == 2
        assert "- tester/encoder\n- tester/language_model" in card
        sizes = [len(content) for name, content in hub.files("tester/stage2").items() if name.endswith("safetensors")]
        assert sum(sizes) < 60_000
        done = hub.run(tmp_path / "home", "-c", ELSEWHERE, song, QUESTION, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *tokens, answer = json.loads(done.stdout.splitlines()[-1])
    assert tokens == expected
    processor = AutoProcessor.from_pretrained(place / "stage2")
    assert answer == processor.decode(expected[1], skip_special_tokens=True).strip()
