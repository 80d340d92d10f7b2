"""What was pushed answers alike in a process where descant cannot be imported."""

import json
import re
import sys

import pytest
import soundfile
from forked_python import run_forked
from hub import LocalHub
from tiny import save_tiny_decider, write_song
from tiny_subgenre import LYRICS, save_tiny_subgenre
from transformers import AutoModelForSeq2SeqLM, pipeline
from transformers.dynamic_module_utils import get_imports

import descant  # noqa: F401 - registers the classes for the Auto class above
from descant.answering.listener import Listener
from descant.models.lp_music_caps import LPMusicCapsProcessor
from descant.publish.hub import publish_folder

QUESTION = "What is the genre?"
# `None` in sys.modules makes the import fail, as where the package is not installed.
ELSEWHERE = """
import sys; sys.modules["descant"] = None
import json, soundfile, torch
from transformers import AutoModelForSeq2SeqLM, AutoProcessor, pipeline
song, question, lyrics, examples = sys.argv[1:]
audio, rate = soundfile.read(song, dtype="float32")
found = {}
for repo in ("tester/model", "tester/adapter"):
    model = AutoModelForSeq2SeqLM.from_pretrained(repo, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(repo, trust_remote_code=True)
    inputs = processor(audio=[audio], text=[question], sampling_rate=rate, return_tensors="pt")
    found[repo] = model.generate(**inputs)[0].tolist()
exec(open(examples).read())
classify = pipeline("music-subgenre-classification", model="tester/subgenres", trust_remote_code=True, device="cpu")
found["tester/subgenres"] = classify({"audio": song, "lyrics": lyrics})
print(json.dumps(found))
"""


def answer(folder, audio):
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    inputs = LPMusicCapsProcessor.from_pretrained(folder)(
        audio=[audio], text=[QUESTION], sampling_rate=16_000, return_tensors="pt"
    )
    return model.generate(**inputs)[0].tolist()


def read_examples(hub, repo):
    """The code on a repository's card."""
    return re.findall(r"```python\n(.*?)```", hub.files(repo)["README.md"].decode(), flags=re.DOTALL)


@pytest.fixture
def hub():
    with LocalHub() as hub:
        yield hub


def test_model_adapter_classifier_and_the_cards_examples_answer_without_descant(
    hub, model_folder, adapter_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    song = write_song(tmp_path / "song.wav", seconds=10, rate=16_000)
    audio, _ = soundfile.read(song, dtype="float32")
    expected = {"tester/model": answer(model_folder, audio), "tester/adapter": answer(adapter_folder, audio)}
    assert expected["tester/adapter"] != answer(tmp_path / "base", audio)  # the adapter is heard
    classifier = save_tiny_subgenre(tmp_path / "subgenres", audio_dim=16, captioner="tester/model")
    classify = pipeline("music-subgenre-classification", model=str(classifier), device="cpu")
    expected["tester/subgenres"] = classify({"audio": str(song), "lyrics": LYRICS}, captioner=str(model_folder))

    publish_folder(model_folder, "tester/model", api=hub.api())
    publish_folder(tmp_path / "base", "tester/base", licence="apache-2.0", api=hub.api())
    publish_folder(adapter_folder, "tester/adapter", base_model="tester/base", api=hub.api())
    publish_folder(classifier, "tester/subgenres", licence="cc-by-nc-4.0", api=hub.api())
    examples = [*read_examples(hub, "tester/model"), *read_examples(hub, "tester/subgenres")]
    (tmp_path / "examples.py").write_text("\n".join(examples))
    line = [song, QUESTION, LYRICS, tmp_path / "examples.py"]
    done = hub.run(tmp_path / "home", "-c", ELSEWHERE, *line, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer_printed, windows_printed, classified, found = done.stdout.splitlines()
    assert json.loads(found) == expected
    assert f"'answer': '{answer_printed}'" in windows_printed and classified.startswith("{'genres': ")


def test_repositories_code_imports_only_what_a_model_may(model_folder):
    allowed = {"torch", "torchaudio", "transformers", "numpy", "av", "soxr", "peft", "fsspec"}
    allowed |= set(sys.stdlib_module_names)
    for path in model_folder.glob("*.py"):
        imported = re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), flags=re.MULTILINE)
        assert set(imported) <= allowed, path.name
        assert set(get_imports(path)) <= allowed - {"av", "soxr", "peft", "fsspec"}, path.name  # asked for at once


DECIDE_ELSEWHERE = """
import sys; sys.modules["descant"] = None
import json
from transformers import pipeline
decide = pipeline("music-decision", model=sys.argv[1], trust_remote_code=True)
print(json.dumps(decide(sys.argv[2], questions=json.loads(sys.argv[3]))))
"""


def test_a_published_model_decides_without_descant(tmp_path):
    folder = save_tiny_decider(tmp_path / "decider")
    song = write_song(tmp_path / "song.wav", seconds=12, rate=16_000)
    questions = {"drums": {"type": "noul", "instructions": "Are there drums?"}}
    done = run_forked("-c", DECIDE_ELSEWHERE, folder, song, json.dumps(questions), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    expected = Listener.load(str(folder)).decide(song, questions)
    assert answers["drums"]["noul"] == pytest.approx(expected["drums"]["noul"], abs=1e-5)
    assert answers["drums"]["heard"] == [[0.0, 12.0]]
