"""Hearings on disk: known ones are not heard again, torn and stale ones are."""

import json
from pathlib import Path

import pytest
from tiny import save_tiny_model, write_song

from descant.inference import hearing_cache
from descant.inference.hearing_cache import hear_tracks
from descant.inference.model_folder import ModelFolderError

QUESTIONS = ["What is the genre?"]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Two songs, a captioner, and the list of what is heard anew."""
    heard = []
    hear = hearing_cache.TrackListener.hear

    def counted(self, tracks):
        heard.extend(track_id for track_id, _ in tracks)
        return hear(self, tracks)

    monkeypatch.setattr(hearing_cache.TrackListener, "hear", counted)
    songs = {"a": write_song(tmp_path / "a.wav", 3), "b": write_song(tmp_path / "b.wav", 3, start_hertz=220)}
    captioner = str(save_tiny_model(tmp_path / "captioner"))
    return songs, captioner, tmp_path / "cache", heard


def test_a_second_run_hears_nothing_and_gives_the_same(workplace):
    songs, captioner, cache, heard = workplace
    first = hear_tracks(songs, captioner, QUESTIONS, cache)
    second = hear_tracks(songs, captioner, QUESTIONS, cache)
    assert heard == ["a", "b"]
    assert [one.said for one in first.values()] == [one.said for one in second.values()]
    assert all((first[name].audio_embeds == second[name].audio_embeds).all() for name in songs)


def test_after_a_kill_only_the_torn_track_is_heard_again(workplace):
    songs, captioner, cache, heard = workplace
    expected = hear_tracks(songs, captioner, QUESTIONS, cache)
    (path,) = cache.rglob("hearings.jsonl")
    path.write_bytes(path.read_bytes()[:-40])
    again = hear_tracks(songs, captioner, QUESTIONS, cache)
    assert len(heard) == 3
    assert [one.said for one in again.values()] == [one.said for one in expected.values()]
    hear_tracks(songs, captioner, QUESTIONS, cache)
    assert len(heard) == 3


def test_another_file_or_another_question_is_heard_anew(workplace, tmp_path):
    songs, captioner, cache, heard = workplace
    hear_tracks(songs, captioner, QUESTIONS, cache)
    write_song(songs["a"], seconds=4)
    hear_tracks(songs, captioner, QUESTIONS, cache)
    assert heard == ["a", "b", "a"]
    hear_tracks(songs, captioner, [None], cache)
    assert heard == ["a", "b", "a", "a", "b"]


def test_a_captioner_that_answers_otherwise_is_heard_anew(workplace):
    songs, captioner, cache, heard = workplace
    hear_tracks(songs, captioner, QUESTIONS, cache)
    before = len(heard)
    config = Path(captioner) / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"clean_up_tokenization_spaces": True}))
    hear_tracks(songs, captioner, QUESTIONS, cache)
    assert len(heard) == 2 * before


def test_what_was_heard_in_an_earlier_way_is_heard_anew(workplace, monkeypatch):
    songs, captioner, cache, heard = workplace
    hear_tracks(songs, captioner, QUESTIONS, cache)
    monkeypatch.setattr(hearing_cache, "HEARING_VERSION", hearing_cache.HEARING_VERSION + 1)
    hear_tracks(songs, captioner, QUESTIONS, cache)
    assert heard == ["a", "b", "a", "b"]


def test_an_unreadable_track_is_named_each_time_and_the_others_are_heard(workplace, tmp_path, caplog):
    songs, captioner, cache, heard = workplace
    songs = {"bad": tmp_path / "bad.wav", **songs}
    songs["bad"].write_bytes(b"no sound at all")
    for _ in range(2):
        found = hear_tracks(songs, captioner, QUESTIONS, cache)
        assert list(found) == ["bad", "a", "b"] and found["bad"].error and found["a"].said
    assert heard == ["bad", "a", "b", "bad"]
    assert "bad.wav" in caplog.text


def test_a_captioner_that_is_gone_is_named(workplace):
    songs, _, cache, _ = workplace
    with pytest.raises(ModelFolderError, match="nowhere/captioner"):
        hear_tracks(songs, "nowhere/captioner", QUESTIONS, cache)
