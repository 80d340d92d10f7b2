"""Answers about recordings: windows pooled to one about the track, typed ones, and how they are written."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny import save_tiny_decider, save_tiny_model, write_song

from descant.answering.answers import Answer, Decider, TrackAnswer, format_decisions, pool_answers
from descant.answering.listener import Listener
from descant.data.audio import AudioError
from descant.models.lp_music_caps.track_music import WindowAnswer, answer_track, write_caption

GENRE = {"type": "choice", "instructions": "What is the genre?", "criteria": {"jazz": None, "rock": None}}
DRUMS = {"type": "noul", "instructions": "Are there drums?"}
AGE = {"type": "score", "instructions": "How old is it?", "criteria": ["new", "old"]}


def window(number: int, prediction: str, confidence: float = 0.5) -> WindowAnswer:
    return WindowAnswer(10.0 * number, 10.0 * number + 10, prediction, math.log(confidence))


def test_equal_answers_are_one_vote_and_show_what_they_rest_on() -> None:
    windows = [window(0, "Rock."), window(1, "It is jazz."), window(2, "it is  Jazz"), window(3, "It is jazz.", 0.6)]
    answer = answer_track("What is the genre?", windows)
    assert answer.prediction == "It is jazz." and (answer.windows, answer.of) == (3, 4)
    assert answer.heard == [[10.0, 40.0]] and answer.others == {"Rock.": 1}
    assert answer.confidence == pytest.approx(1.6 / 2.1)


def test_votes_are_weighed_by_confidence() -> None:
    windows = [window(0, "Rock.", 0.2), window(1, "Rock.", 0.2), window(2, "Jazz.", 0.9)]
    assert answer_track("What is the genre?", windows).prediction == "Jazz."


def test_one_window_is_answered_as_it_is() -> None:
    answer = answer_track(None, [window(0, "A slow piano piece.")])
    assert (answer.prediction, answer.heard, answer.windows, answer.of) == ("A slow piano piece.", [[0.0, 10.0]], 1, 1)


def test_a_caption_states_what_recurs_the_commonest_first() -> None:
    captions = [
        "A calm jazz piece with piano and drums.", "Calm jazz: piano, drums and a saxophone, slow.",
        "A slow jazz tune with a piano.", "Slow and calm. A flute plays.",
    ]  # fmt: skip
    assert write_caption(captions) == (
        "It is jazz music. Piano and drums are heard. The mood is peaceful. The tempo is slow."
    )
    assert write_caption(["A bass plays.", "A bass and a hum."]) == "Bass is heard."


def test_claims_that_exclude_each_other_are_named_not_averaged() -> None:
    captions = ["Fast jazz with drums.", "Fast jazz, drums.", "Slow rock without drums.", "Slow rock. No drums."] * 2
    caption = write_caption([*captions, "Fast jazz with drums."])
    assert "It is jazz music, but rock in 4 of 9 windows." in caption
    assert "The tempo is fast, but slow in 4 of 9 windows." in caption
    assert caption.endswith("Windows disagree about drums: 5 of 9 name them, 4 deny them.")
    assert "heard" not in caption  # which would be said beside it
    assert write_caption(["A piano.", "A piano, no bass.", "A bass."]) == (
        "Piano is heard. Windows disagree about bass: 1 of 3 names it, 1 denies it."
    )


def test_kinds_of_a_genre_do_not_exclude_it() -> None:
    assert write_caption(["A country waltz.", "Country music: a country waltz.", "Country music."]) == (
        "It is country waltz music."
    )


def test_where_nothing_recurs_the_surest_caption_stands() -> None:
    windows = [window(0, "A slow flute.", 0.3), window(1, "Loud techno.", 0.8)]
    answer = answer_track(None, windows)
    assert answer.prediction == "Loud techno." and (answer.windows, answer.of) == (1, 2)


def test_a_listener_answers_about_the_track_or_its_windows(tmp_path: Path) -> None:
    listener = Listener.load(str(save_tiny_model(tmp_path / "model")))
    song = write_song(tmp_path / "song.wav", 25.0)
    tracks = listener.ask(song, ["What is the genre?", "Which instruments play?"])
    assert [track.question for track in tracks] == ["What is the genre?", "Which instruments play?"]
    assert [(one.start_s, one.end_s) for one in tracks] == [(0.0, 25.0)] * 2
    answers = listener.ask(song, "What is the genre?", windows=True)
    assert [(one.start_s, one.end_s) for one in answers] == [(0.0, 10.0), (10.0, 20.0), (20.0, 25.0)]
    assert tracks[0].prediction in {one.prediction for one in answers}
    assert listener.ask(song, "What is the genre?", hear=1).prediction == answers[1].prediction


def test_windows_are_pooled_by_recording_and_question() -> None:
    def one(
        audio: str, start_s: float | None, question: str | None, prediction: str | None, error: str | None = None
    ) -> Answer:
        end_s = None if start_s is None else start_s + 10
        return Answer("id", "clip", audio, start_s, end_s, question, "model", {}, prediction=prediction, error=error)

    stream = [
        one("a.wav", 0, "Genre?", "Jazz."), one("a.wav", 0, "Mood?", "Calm."), one("a.wav", 10, "Genre?", "Jazz."),
        one("a.wav", 10, "Mood?", "Calm."), one("a.wav", 0, "Genre?", "Rock."),
        one("b.wav", None, None, None, "is empty"),
    ]  # fmt: skip
    pooled = list(pool_answers(stream))
    assert [(answer.audio, answer.question) for answer in pooled] == [
        ("a.wav", "Genre?"), ("a.wav", "Mood?"), ("a.wav", "Genre?"), ("b.wav", None),
    ]  # fmt: skip
    assert isinstance(pooled[0], TrackAnswer) and pooled[3].error == "is empty"
    record = pooled[0].to_record()
    assert record["windows"] == record["of"] == 2 and (record["start_s"], record["end_s"]) == (0.0, 20.0)
    assert record["audio"] == "a.wav" and record["prediction"] == "Jazz."
    assert pooled[0].to_text() == "a.wav  Genre?  Jazz.  (0:00–0:20, 2 of 2 windows)"


# Typed answers


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
    doubtful = jazz | {"sure": False, "unknown": ["rock"]}
    assert next(format_decisions({"genre": doubtful})) == "  genre  not sure (jazz? 82 %, unknown to the model: rock)"
