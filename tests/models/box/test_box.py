"""The model in the box: what the package carries, and that commands mean it where no model is named."""

import json

import numpy as np
import pytest
import soundfile
import yaml

import descant
from descant import cli
from descant.answering import description
from descant.answering.model_folder import ModelFolderError, find_model, split_model
from descant.data import audio
from descant.models import box
from descant.models.musicnn import PRETRAINED, MusicnnModel
from descant.publish.code import collect_code
from descant.publish.facts import read_facts

LARGEST = 14e6


@pytest.fixture(scope="module")
def listener():
    return descant.load()


@pytest.fixture(scope="module")
def song(tmp_path_factory) -> str:
    """Write six seconds of a plucked scale."""
    path = tmp_path_factory.mktemp("song") / "song.wav"
    time = np.arange(8000) / 16_000
    notes = [np.sin(2 * np.pi * 220 * 2 ** (step / 12) * time) * np.exp(-6 * time) for step in (0, 2, 4, 5, 7, 9) * 2]
    soundfile.write(path, 0.5 * np.concatenate(notes), 16_000)
    return str(path)


def test_it_is_small_and_holds_no_weights_of_the_ears():
    sizes = [path.stat().st_size for folder in (box.FOLDER, PRETRAINED) for path in folder.iterdir()]
    assert sum(sizes) <= LARGEST
    config = json.loads((box.FOLDER / "config.json").read_text())
    assert config["audio_model_id"] == config["audio_config"]["_name_or_path"] == "musicnn"


def test_its_code_is_all_there_when_it_is_published():
    found = collect_code(read_facts(box.FOLDER))
    assert {"pipeline_music.py", "modeling_mert_lm.py", "terms.py", "sound_file.py"} <= set(found)


def test_its_card_and_notice_name_both_licences():
    card = (box.FOLDER / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["license"] == "apache-2.0" and "ISC" in card
    assert (PRETRAINED / "LICENSE").read_text() in (box.FOLDER / "NOTICE").read_text()
    assert "non-commercial" in card


def test_it_answers_in_words_and_with_probabilities(listener, song):
    answer = listener.ask(song, "Are there drums?")
    assert answer.model == "box" and answer.prediction.startswith(("Yes", "No", "I hear no"))
    assert answer.probability > 0.5 and answer.to_text().endswith(f"({100 * answer.probability:.0f} %)")
    criteria = dict.fromkeys(("slow", "medium", "fast"))
    kind = {"type": "choice", "instructions": "What is the tempo?", "criteria": criteria}
    unknown = {"type": "choice", "instructions": "Which year is it from?", "criteria": {"1990": None, "2010": None}}
    answers = listener.decide(song, {"tempo": kind, "year": unknown})
    assert sum(answers["tempo"]["probabilities"].values()) == pytest.approx(1)
    assert not answers["year"]["sure"]


def test_its_typed_answers_were_fitted_for_its_weights(listener):
    fitted = listener.model.decision_config.fitted_for
    assert len(fitted) == 5 and fitted.keys() == listener.model.fingerprint().keys()


def test_it_says_that_it_is_not_sure_of_what_sound_does_not_tell(listener, song):
    assert "sure" in listener.ask(song, "What is the title of this song?").prediction


def test_noise_is_no_music(listener):
    noise = np.random.default_rng(0).standard_normal(160_000).astype(np.float32) / 10
    drums = {"type": "noul", "instructions": "Are there drums?"}
    assert listener.decide(noise, {"drums": drums}, sampling_rate=16_000)["drums"]["reason"] == "no music"


def test_commands_without_a_model_mean_it_and_say_so_once(song, capsys):
    assert cli.main(["ask", song, "-q", "What is the tempo?", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["model"] == "box" and err.count("the model in the box") == 1
    assert cli.main(["decide", song, "--yesno", "Are there drums?", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["model"] == "box" and err.count("the model in the box") == 1


@pytest.mark.parametrize(("seconds", "times"), [(20, 2), (16, 3)])  # decisions hear a short window anew, repeated
def test_a_track_is_read_and_encoded_once_for_all_that_is_asked(song, seconds, times, monkeypatch, capsys, tmp_path):
    encoded, read = [], []
    samples, rate = soundfile.read(song)
    soundfile.write(tmp_path / "song.wav", np.resize(samples, seconds * rate), rate)
    song = str(tmp_path / "song.wav")
    forward, hear = MusicnnModel.forward, audio.hear_windows
    monkeypatch.setattr(
        MusicnnModel, "forward", lambda model, features, *given, **named: (
            encoded.append(len(features)) or forward(model, features, *given, **named)
        )
    )  # fmt: skip
    monkeypatch.setattr(audio, "hear_windows", lambda path, *given: read.append(path) or hear(path, *given))
    monkeypatch.setattr("descant.answering.answers.hear_windows", audio.hear_windows)
    monkeypatch.setattr(description, "measure", lambda path: None)
    typed, free = "What is the tempo?", "What could this music be used for in a film?"
    assert cli.main(["ask", song, "-q", typed, "-q", free, "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [bool(one["decided"]) for one in answers] == [True, False] and all(one["prediction"] for one in answers)
    assert (sum(encoded), len(read)) == (times, 1)
    command = ["describe", song, "--output", str(tmp_path / "out.jsonl"), "--states"]
    assert cli.main(command) == 0
    described = json.loads((tmp_path / "out.jsonl").read_text())
    assert described["caption"] and described["states"] and (sum(encoded), len(read)) == (2 * times, 2)


def test_a_first_argument_is_a_model_where_it_is_one(song, tmp_path, capsys):
    assert split_model([str(box.FOLDER), song]) == (str(box.FOLDER), [song])
    assert split_model(["someone/model", song]) == ("someone/model", [song])
    assert split_model([str(tmp_path), song]) == ("box", [str(tmp_path), song])  # a folder without a configuration
    assert split_model(["absent.wav"]) == ("box", ["absent.wav"])
    assert find_model("box") == box.FOLDER
    with pytest.raises(ModelFolderError, match="box is a model: give sound files too"):
        split_model(["box"])
