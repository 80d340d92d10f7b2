"""lmms-eval finds descant's models by the entry point, and they answer its requests; its interface stands in here."""

import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny import climb, save_tiny_decider

LETTERS = "\n(A) rock\n(B) jazz\nAnswer with the option's letter from the given choices directly."


@pytest.fixture(scope="module")
def door() -> Any:
    """Import the door behind the part of lmms-eval's interface that it uses: requests, a base class, a manifest."""
    names = ("lmms_eval", "lmms_eval.api", "lmms_eval.api.instance", "lmms_eval.api.model", "lmms_eval.models",
             "lmms_eval.models.registry_v2")  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setitem(sys.modules, name, ModuleType(name))
        sys.modules["lmms_eval.api.instance"].Instance = SimpleNamespace  # type: ignore[attr-defined]
        sys.modules["lmms_eval.api.model"].lmms = type("lmms", (), {"rank": 0})  # type: ignore[attr-defined]
        sys.modules["lmms_eval.models.registry_v2"].ModelManifest = SimpleNamespace  # type: ignore[attr-defined]
        patch.delitem(sys.modules, "descant.doors.lmms_eval", raising=False)
        yield import_module("descant.doors.lmms_eval")


@pytest.fixture(scope="module")
def model(door: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return door.DescantModel(str(save_tiny_decider(tmp_path_factory.mktemp("model") / "m")), hear="all", device="cpu")


def sound(seconds: float = 12.0) -> dict[str, Any]:
    return {"array": climb(seconds, 16_000, 110.0).astype(np.float32), "sampling_rate": 16_000}


def test_the_entry_point_names_a_class_that_is_there(door: Any) -> None:
    (found,) = [one for one in entry_points(group="lmms_eval.models") if one.name == "descant"]
    assert found.value == "descant.doors.lmms_eval:list_models"
    (manifest,) = door.list_models()
    room, name = manifest.simple_class_path.rsplit(".", 1)
    assert (manifest.model_id, room) == ("descant", door.__name__) and getattr(door, name).is_simple


def test_requests_are_answered_in_order_with_the_likeliest_letter_or_in_words(model: Any) -> None:
    rows = [{"audio": sound()}, {"audio": sound(3)}]
    model.task_dict = {"quiz": {"test": rows}}
    prompts = ["What is the genre?" + LETTERS, "What is the genre?"]
    requests = [
        SimpleNamespace(args=(prompt, {}, lambda row: [row["audio"]], number, "quiz", "test"))
        for number, prompt in enumerate(prompts)
    ]
    letter, words = model.generate_until(requests)
    asked = {"q": {"type": "choice", "instructions": "What is the genre?", "criteria": {"rock": None, "jazz": None}}}
    decided = model.listener.decide(rows[0]["audio"]["array"], asked, hear=None, sampling_rate=16_000)["q"]
    likeliest = max(decided["probabilities"], key=decided["probabilities"].__getitem__)
    assert {"A": "rock", "B": "jazz"}[letter] == likeliest
    assert words == model.listener.ask(rows[1]["audio"]["array"], prompts[1], sampling_rate=16_000).prediction


def test_nothing_is_guessed_about_silence_or_what_training_did_not_have(model: Any) -> None:
    silence = {"array": np.zeros(80_000, np.float32), "sampling_rate": 16_000}
    for prompt in ("What is the genre?" + LETTERS, "What is the genre?"):
        assert model.answer(prompt, [silence]) == "I am not sure."
    assert model.answer("Who wrote it?\n(A) Ann\n(B) Bob", [sound()]) == "I am not sure."


def test_a_question_needs_one_recording_and_arguments_are_known(door: Any, model: Any) -> None:
    with pytest.raises(ValueError, match="a question with 2 recordings: descant hears exactly one"):
        model.answer("What is the genre?", [sound(), sound()])
    with pytest.raises(ValueError, match="no model argument max_pixels: leave it out"):
        door.DescantModel("box", max_pixels=3)
    path = Path("song.wav")
    assert door.read_sound(str(path)) == ("song.wav", None)
