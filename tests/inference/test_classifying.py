"""Tests of recordings on their way through captioner and classifier, and of which captioner hears."""

from pathlib import Path

import pytest
from tiny import save_tiny_model, write_song
from tiny_subgenre import save_tiny_subgenre

from descant.inference.answers import in_order
from descant.inference.classifier import TrackClassifier
from descant.inference.classifying import Classifying, join_parts, load_captioner
from descant.inference.listener import Recording
from descant.inference.model_folder import ModelFolderError
from descant.inference.track_hearing import Said, TrackHearing, hash_captioner

WORDS = "we drive all night on broken strings"


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("captioner")))


def load(folder: Path, **settings: object) -> TrackClassifier:
    return TrackClassifier.load(str(save_tiny_subgenre(folder, audio_dim=16, **settings)))


def test_the_models_own_captioner_asks_its_questions_in_its_way(
    captioner: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = {"captioner": captioner, "captioner_hash": hash_captioner(Path(captioner)), "questions": ["Is it fast?"]}
    listener, note = load_captioner(load(tmp_path, **own, captioner_generation={"num_beams": 3}), None)
    assert note is None and not caplog.records
    assert listener.questions == ("Is it fast?",) and listener.listener.generation["num_beams"] == 3


def test_without_questions_the_captioner_gives_captions(captioner: str, tmp_path: Path) -> None:
    listener, _ = load_captioner(load(tmp_path, captioner=captioner), None)
    assert listener.questions == (None,)


def test_a_captioner_that_is_gone_is_noted_and_one_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    classifier = load(tmp_path, captioner="/nowhere/captioner")
    listener, note = load_captioner(classifier, None)
    assert listener is None and note.startswith("the model's captioner is gone, nothing was heard: /nowhere/captioner")
    with pytest.raises(ModelFolderError, match="/nowhere/other"):
        load_captioner(classifier, "/nowhere/other")


def test_a_model_without_captioner_reads_lyrics_alone_and_says_so(tmp_path: Path) -> None:
    classifier = load(tmp_path / "model")
    listener, note = load_captioner(classifier, None)
    assert listener is None and note == "the model names no captioner: nothing was heard"
    song = write_song(tmp_path / "song.wav", seconds=1)
    song.with_suffix(".txt").write_text(WORDS)
    recordings = [Recording(tmp_path / "gone.mp3", "gone"), Recording(song, "song"), Recording(song, "song")]
    gone, *found = in_order(Classifying(classifier, recordings, note=note))
    assert gone.error == "does not exist" and gone.audio == "gone"
    assert [(one.read, one.notes) for one in found] == [(["lyrics"], [note])] * 2


def test_recordings_are_numbered_as_given_the_same_one_twice_too(captioner: str, tmp_path: Path) -> None:
    classifier = load(tmp_path / "model", captioner=captioner)
    paths = [write_song(tmp_path / "long.wav", 12), tmp_path / "gone.wav", write_song(tmp_path / "short.wav", 3)]
    recordings = [Recording(path, path.name) for path in [*paths, paths[0]]]
    listener, _ = load_captioner(classifier, None, batch_size=2)
    found = list(in_order(Classifying(classifier, recordings, listener, explain=False)))
    assert [one.audio for one in found] == ["long.wav", "gone.wav", "short.wav", "long.wav"]
    assert found[0].scores == pytest.approx(found[3].scores) and found[1].error == "does not exist"
    assert found[0].notes == ["no lyrics were found"]


def test_windows_are_named_once_however_many_answers_they_have() -> None:
    said = tuple(Said(start, start + 10.0, question, "yes") for start in (0.0, 10.0) for question in ("a", "b"))
    assert join_parts(None, TrackHearing("0", said)).spans == ((0.0, 10.0), (10.0, 20.0))
