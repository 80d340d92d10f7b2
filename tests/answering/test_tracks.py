"""Answers about whole tracks: votes of windows, captions of recurring claims, contradictions that are named."""

import math
from pathlib import Path

import pytest
from tiny import save_tiny_model, write_song

from descant.answering.listener import Answer, Listener
from descant.answering.recordings import TrackAnswer, pool_answers
from descant.models.lp_music_caps.track_music import WindowAnswer, answer_track, write_caption


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


def test_claims_that_exclude_each_other_are_named_not_averaged() -> None:
    captions = ["Fast jazz with drums.", "Fast jazz, drums.", "Slow rock without drums.", "Slow rock. No drums."] * 2
    caption = write_caption([*captions, "Fast jazz with drums."])
    assert "It is jazz music, but rock in 4 of 9 windows." in caption
    assert "The tempo is fast, but slow in 4 of 9 windows." in caption
    assert "Windows disagree about drums: 5 of 9 name it, 4 deny it." in caption


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
