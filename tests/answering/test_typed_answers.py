"""Typed answers about whole files: what is heard, what is not music, and how answers are written."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny import save_tiny_decider, save_tiny_model, write_song

from descant.answering.listener import Listener
from descant.answering.typed_answers import Decider, format_decisions
from descant.data.audio import AudioError

GENRE = {"type": "choice", "instructions": "What is the genre?", "criteria": {"jazz": None, "rock": None}}
DRUMS = {"type": "noul", "instructions": "Are there drums?"}
AGE = {"type": "score", "instructions": "How old is it?", "criteria": ["new", "old"]}


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Listener:
    return Listener.load(str(save_tiny_decider(tmp_path_factory.mktemp("decider"))))


def write_noise(path: Path, level: float, seconds: float = 12.0) -> Path:
    soundfile.write(path, level * np.random.default_rng(0).normal(size=round(seconds * 16_000)), 16_000)
    return path


def test_one_answer_a_question_rests_on_all_windows_of_the_track(listener: Listener, tmp_path: Path) -> None:
    decider = Decider(listener.model, listener.processor, {"genre": GENRE, "drums": DRUMS})
    found = decider.decide(write_song(tmp_path / "song.wav", 26.0))
    assert found.duration_s == pytest.approx(26.0) and set(found.answers) == {"genre", "drums"}
    genre = found.answers["genre"]
    assert genre["heard"] == [[0.0, 26.0]] and genre["sure"] and "reason" not in genre
    assert sum(genre["probabilities"].values()) == pytest.approx(1.0) and 0 < found.answers["drums"]["noul"] < 1


def test_a_track_is_decided_by_the_mean_of_its_windows(listener: Listener, tmp_path: Path) -> None:
    song = write_song(tmp_path / "song.wav", 20.0)
    whole = soundfile.read(song)[0]
    halves = []
    for number, part in enumerate(np.split(whole, 2)):
        soundfile.write(tmp_path / f"{number}.wav", part, 44_100)
        halves.append(listener.decide(tmp_path / f"{number}.wav", {"genre": GENRE})["genre"]["probabilities"])
    product = {name: np.sqrt(halves[0][name] * halves[1][name]) for name in ("jazz", "rock")}
    pooled = listener.decide(song, {"genre": GENRE})["genre"]["probabilities"]
    assert pooled["jazz"] == pytest.approx(product["jazz"] / sum(product.values()), abs=1e-3)
    assert abs(halves[0]["jazz"] - halves[1]["jazz"]) > 1e-3, "or the test says nothing: both halves sound alike"


def test_windows_without_music_are_left_out(listener: Listener, tmp_path: Path) -> None:
    write_song(tmp_path / "song.wav", 10.0)
    song = soundfile.read(tmp_path / "song.wav")[0]
    noise = np.random.default_rng(0).normal(size=441_000) * 0.1
    soundfile.write(tmp_path / "mixed.wav", np.concatenate([np.zeros(441_000), song, noise]), 44_100)
    mixed = listener.decide(tmp_path / "mixed.wav", {"genre": GENRE})["genre"]
    assert mixed["heard"] == [[10.0, 20.0]]
    alone = listener.decide(tmp_path / "song.wav", {"genre": GENRE})["genre"]
    assert mixed["probabilities"] == pytest.approx(alone["probabilities"], abs=0.02)


def test_about_noise_nothing_is_said(listener: Listener, tmp_path: Path) -> None:
    answers = listener.decide(write_noise(tmp_path / "noise.wav", 0.1), {"genre": GENRE, "drums": DRUMS})
    assert {one["reason"] for one in answers.values()} == {"no music"}
    assert not any(one["sure"] or one["heard"] for one in answers.values())
    assert list(format_decisions(answers))[0] == (
        "  genre  no music heard (it sounds like noise, tones or speech)"
    )


def test_silence_is_named(listener: Listener, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(320_000), 16_000)
    answers = listener.decide(tmp_path / "silence.wav", {"genre": GENRE})
    assert answers["genre"]["reason"] == "silence"
    assert list(format_decisions(answers, always=True)) == ["  genre  no music heard (silence)"]


def test_a_question_of_a_type_absent_from_training_is_not_sure(listener: Listener, tmp_path: Path) -> None:
    answers = listener.decide(write_song(tmp_path / "song.wav", 10.0), {"age": AGE})
    assert answers["age"]["reason"] == "unlike training" and not answers["age"]["sure"]
    assert "not trained on such a question" in next(format_decisions(answers, always=True))


@pytest.mark.parametrize(("name", "seconds"), [("missing.wav", None), ("short.wav", 0.3)])
def test_what_cannot_be_heard_is_refused_by_name(
    listener: Listener, tmp_path: Path, name: str, seconds: float | None
) -> None:
    if seconds:
        write_song(tmp_path / name, seconds)
    with pytest.raises(AudioError, match=name):
        listener.decide(tmp_path / name, {"genre": GENRE})


def test_a_model_that_was_not_fitted_is_refused(tmp_path: Path) -> None:
    listener = Listener.load(str(save_tiny_model(tmp_path)))
    with pytest.raises(ValueError, match="has no decision.json"):
        listener.decide(tmp_path / "any.wav", {"genre": GENRE})


def test_lines_say_what_is_sure_and_what_contradicts() -> None:
    jazz = {"type": "choice", "choice": "jazz", "probabilities": {"jazz": 0.82, "rock": 0.18}, "sure": True}
    score = {"type": "score", "score": 0.4, "legend": {"0": "slow", "1": "fast"}, "sure": False,
             "probabilities": {"0": 0.6, "1": 0.4}}  # fmt: skip
    drums = {"type": "noul", "noul": 0.1, "sure": True, "heard": [[0.0, 70.0]], "contradicts": ["lead"]}
    lines = list(format_decisions({"genre": jazz, "tempo": score, "drums": drums}))
    assert lines == [
        "  genre  jazz (82 %)",
        "  tempo  not sure (slow? 60 %)",
        "  drums  no (90 %, contradicts lead)   0:00–1:10",
    ]
    assert next(format_decisions({"tempo": score}, always=True)) == "  tempo  slow (60 %)"
