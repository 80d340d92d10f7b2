"""A pushed classifier, and the example on its card, work in a process where descant cannot be imported."""

import json
import re

from hub import LocalHub
from tiny import save_tiny_model, write_song
from tiny_subgenre import LYRICS, save_tiny_subgenre
from transformers import pipeline

from descant.publish.hub import publish_folder

# `None` in sys.modules makes the import fail, as where the package is not installed.
ELSEWHERE = """
import sys; sys.modules["descant"] = None
import json
from transformers import pipeline
exec(open(sys.argv[1]).read())
classify = pipeline("music-subgenre-classification", model="tester/subgenres", trust_remote_code=True, device="cpu")
print(json.dumps(classify({"audio": sys.argv[2], "lyrics": sys.argv[3]})))
"""


def test_a_pushed_classifier_hears_with_its_pushed_captioner_without_descant(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    captioner = save_tiny_model(tmp_path / "captioner")
    folder = save_tiny_subgenre(tmp_path / "subgenres", audio_dim=16, captioner="tester/captioner")
    song = write_song(tmp_path / "song.wav", seconds=4)
    classify = pipeline("music-subgenre-classification", model=str(folder), device="cpu")
    expected = classify({"audio": str(song), "lyrics": LYRICS}, captioner=str(captioner))
    with LocalHub() as hub:
        publish_folder(captioner, "tester/captioner", licence="apache-2.0", api=hub.api())
        publish_folder(folder, "tester/subgenres", licence="apache-2.0", api=hub.api())
        card = hub.files("tester/subgenres")["README.md"].decode()
        (tmp_path / "example.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)))
        arguments = [tmp_path / "example.py", song, LYRICS]
        done = hub.run(tmp_path / "home", "-c", ELSEWHERE, *arguments, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    printed, found = done.stdout.splitlines()
    assert json.loads(found) == expected
    assert printed.startswith("{'genres': ")
