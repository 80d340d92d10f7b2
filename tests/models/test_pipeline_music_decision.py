"""`pipeline("music-decision")`: every form of sound and of request gives the answers of the command."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny import save_tiny_decider, write_song
from transformers import pipeline

from descant.answering.listener import Listener

QUESTIONS = {
    "genre": {"type": "choice", "instructions": "What is the genre?", "criteria": {"jazz": None, "rock": None}},
    "drums": {"type": "noul", "instructions": "Are there drums?"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_decider(tmp_path_factory.mktemp("decider"))


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_song(tmp_path_factory.mktemp("song") / "song.wav", 23.0, rate=16_000)


@pytest.fixture(scope="module")
def decide(folder: Path):
    return pipeline("music-decision", model=str(folder))


def test_every_form_of_sound_gives_the_answers_of_the_listener(decide, folder: Path, song: Path) -> None:
    expected = Listener.load(str(folder)).decide(song, QUESTIONS)
    asset = {"type": "audio", "format": "wav", "data_base64": base64.b64encode(song.read_bytes()).decode()}
    array = soundfile.read(song, dtype="float32")[0]
    request = {"state": "track", "questions": QUESTIONS, "assets": {"track": asset}}
    forms = [str(song), song, song.read_bytes(), array, {"array": array, "sampling_rate": 16_000}, asset]
    bare = {"state": asset, "questions": QUESTIONS, "assets": None}
    requests = (request, bare, json.dumps(request))
    found = [*(decide(form, questions=QUESTIONS) for form in forms), *map(decide, requests)]
    for answers in found:
        assert answers["genre"]["heard"] == expected["genre"]["heard"] == [[0.0, 23.0]]
        assert answers["genre"]["probabilities"] == pytest.approx(expected["genre"]["probabilities"], abs=1e-4)
        assert answers["drums"]["noul"] == pytest.approx(expected["drums"]["noul"], abs=1e-4)


def test_a_list_of_tracks_gives_a_list(decide, song: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "noise.wav", 0.1 * np.random.default_rng(0).normal(size=160_000), 16_000)
    first, second = decide([str(song), str(tmp_path / "noise.wav")], questions=QUESTIONS)
    assert "reason" not in first["genre"] and second["genre"]["reason"] == "no music"


def test_how_many_windows_are_heard_is_asked_for(decide, song: Path) -> None:
    assert decide(str(song), questions=QUESTIONS, hear=1)["genre"]["heard"] == [[10.0, 20.0]]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"state": "missing.wav", "questions": QUESTIONS}, "missing.wav"),
        ({"state": {"type": "audio", "data_base64": "no base64!"}, "questions": QUESTIONS}, "no base64"),
        ({"state": {"type": "image", "data_base64": ""}, "questions": QUESTIONS}, "only audio"),
        ({"state": 7, "questions": QUESTIONS}, "the state is int"),
        ({"state": "song.wav"}, "no questions"),
        ('{"state": ', "is no JSON"),
        ({"state": np.ones(16_000), "questions": {"genre": {"type": "colour"}}}, "genre"),
    ],
)
def test_what_cannot_be_read_is_refused(decide, request_, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        decide(request_)
