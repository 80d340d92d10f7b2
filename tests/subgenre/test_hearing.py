"""Hearings on disk: known ones are not heard again, torn and stale ones are."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny import build_tiny_model, save_tiny_model, write_song

from descant.answering.listener import Listener
from descant.answering.model_folder import ModelFolderError, fingerprint_model
from descant.answering.stream import AnswerStream
from descant.data.audio import AudioError, load_audio, windows
from descant.subgenre import hearing
from descant.subgenre.hearing import TrackListener, hear_tracks, one_ahead

QUESTIONS = ["What is the genre?"]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Two songs, a captioner, and the list of what is heard anew."""
    heard = []
    hear = hearing.TrackListener.hear

    def counted(self, tracks):
        heard.extend(track_id for track_id, _ in tracks)
        return hear(self, tracks)

    monkeypatch.setattr(hearing.TrackListener, "hear", counted)
    songs = {"a": write_song(tmp_path / "a.wav", 3), "b": write_song(tmp_path / "b.wav", 3, start_hertz=220)}
    captioner = str(save_tiny_model(tmp_path / "captioner"))
    return songs, captioner, tmp_path / "cache", heard


def test_a_second_run_hears_nothing_and_gives_the_same(workplace):
    songs, captioner, cache, heard = workplace
    first = hear_tracks(songs, captioner, QUESTIONS, cache)
    second = hear_tracks(songs, captioner, QUESTIONS, cache)
    assert heard == ["a", "b"]
    assert [one.answers for one in first.values()] == [one.answers for one in second.values()]
    assert all((first[name].audio_embeds == second[name].audio_embeds).all() for name in songs)


def test_after_a_kill_only_the_torn_track_is_heard_again(workplace):
    songs, captioner, cache, heard = workplace
    expected = hear_tracks(songs, captioner, QUESTIONS, cache)
    (path,) = cache.rglob("hearings.jsonl")
    path.write_bytes(path.read_bytes()[:-40])
    again = hear_tracks(songs, captioner, QUESTIONS, cache)
    assert len(heard) == 3
    assert [one.answers for one in again.values()] == [one.answers for one in expected.values()]
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


def test_another_file_of_the_same_name_and_size_is_heard_anew(workplace):
    songs, captioner, cache, heard = workplace
    hear_tracks(songs, captioner, QUESTIONS, cache)
    content = songs["a"].read_bytes()
    songs["a"].write_bytes(content[:-2] + bytes(255 - one for one in content[-2:]))
    hear_tracks(songs, captioner, QUESTIONS, cache)
    assert heard == ["a", "b", "a"]


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
    monkeypatch.setattr(hearing, "HEARING_VERSION", hearing.HEARING_VERSION + 1)
    hear_tracks(songs, captioner, QUESTIONS, cache)
    assert heard == ["a", "b", "a", "b"]


def test_an_unreadable_track_is_named_each_time_and_the_others_are_heard(workplace, tmp_path, caplog):
    songs, captioner, cache, heard = workplace
    songs = {"bad": tmp_path / "bad.wav", **songs}
    songs["bad"].write_bytes(b"no sound at all")
    for _ in range(2):
        found = hear_tracks(songs, captioner, QUESTIONS, cache)
        assert list(found) == ["bad", "a", "b"] and found["bad"].error and found["a"].answers
    assert heard == ["bad", "a", "b", "bad"]
    assert "bad.wav" in caplog.text


def test_a_captioner_that_is_gone_is_named(workplace):
    songs, _, cache, _ = workplace
    with pytest.raises(ModelFolderError, match="nowhere/captioner"):
        hear_tracks(songs, "nowhere/captioner", QUESTIONS, cache)


TRACK_QUESTIONS = ("What is the genre?", None)


@pytest.fixture(scope="module")
def listener():
    return Listener(*build_tiny_model(), "tiny")


def test_every_window_is_asked_every_question_in_order_and_a_bad_file_is_named(listener, tmp_path):
    songs = {"long": write_song(tmp_path / "long.wav"), "short": write_song(tmp_path / "short.wav", seconds=4)}
    tracks = [("long", songs["long"]), ("gone", tmp_path / "gone.wav"), ("short", songs["short"])]
    heard = {one.track_id: one for one in TrackListener(listener, TRACK_QUESTIONS, batch_size=2).hear(tracks)}
    assert heard.keys() == {"long", "gone", "short"}
    spans = [(said.start_s, said.end_s, said.question) for said in heard["long"].answers]
    assert spans == [(start, min(start + 10, 25), question) for start in (0, 10, 20) for question in TRACK_QUESTIONS]
    assert heard["gone"].answers == () and heard["gone"].audio_embeds is None
    assert "gone.wav: does not exist" in heard["gone"].error
    assert heard["short"].sentences(TRACK_QUESTIONS[:1]) == [heard["short"].answers[0].answer]


def test_a_track_is_heard_alike_alone_and_among_others(listener, tmp_path):
    songs = [("a", write_song(tmp_path / "a.wav", 12)), ("b", write_song(tmp_path / "b.wav", 12, start_hertz=220))]
    together = {one.track_id: one for one in TrackListener(listener, TRACK_QUESTIONS).hear(songs)}
    for song in songs:
        (alone,) = TrackListener(listener, TRACK_QUESTIONS).hear([song])
        assert alone.answers == together[song[0]].answers
        np.testing.assert_array_equal(alone.audio_embeds, together[song[0]].audio_embeds)


def test_the_embedding_is_the_mean_over_positions_and_over_windows_by_their_length(listener, tmp_path):
    song = write_song(tmp_path / "song.wav", seconds=14)
    (heard,) = TrackListener(listener, TRACK_QUESTIONS).hear([("song", song)])
    pieces = [window.samples for window in windows(load_audio(song))]
    inputs = listener.processor(audio=pieces, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        first, second = listener.model.get_audio_features(inputs["input_features"]).mean(dim=1)
    expected = (10 * first + 4 * second) / 14
    np.testing.assert_allclose(heard.window_embeds, torch.stack([first, second]).numpy(), atol=1e-5)
    np.testing.assert_allclose(heard.audio_embeds, expected.numpy(), atol=1e-5)


def test_a_captioner_has_the_same_hash_wherever_it_lies_and_another_one_has_not(tmp_path):
    first, copy, other = (save_tiny_model(tmp_path / str(seed) / name, seed) for name, seed in
                          (("a", 0), ("b", 0), ("a", 1)))  # fmt: skip
    assert fingerprint_model(first) == fingerprint_model(copy) != fingerprint_model(other)


def test_items_are_made_one_ahead_of_their_use_and_in_order():
    made = []
    items = one_ahead(made.append(number) or number for number in range(3))
    assert next(items) == 0
    assert list(items) == [1, 2] and made == [0, 1, 2]


def test_what_fails_while_an_item_is_made_ahead_is_raised():
    def numbers():
        yield 1
        raise ValueError("no more numbers")

    items = one_ahead(numbers())
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more numbers"):
        next(items)


def test_several_threads_hear_what_one_hears_and_name_the_window_that_fails(listener, tmp_path, monkeypatch):
    songs = [(name, write_song(tmp_path / f"{name}.wav", 24, start_hertz=hertz)) for name, hertz in
             (("a", 110), ("b", 220), ("c", 440))]  # fmt: skip
    extract, failing = TrackListener._extract, load_audio(songs[1][1])[160_000:320_000]

    def fail_once(self, window):
        if window.start_s == 10 and np.array_equal(window.samples, failing):
            raise ValueError("a fault of this window")
        return extract(self, window)

    monkeypatch.setattr(TrackListener, "_extract", fail_once)
    heard = []
    for threads in (1, 2):
        monkeypatch.setattr(AnswerStream, "encoding_threads", threads)
        found = {one.track_id: one for one in TrackListener(listener, TRACK_QUESTIONS, batch_size=2).hear(songs)}
        assert found["b"].error == f"{songs[1][1]}: 0:10–0:20: a fault of this window" and not found["b"].answers
        heard.append({name: (found[name].answers, found[name].audio_embeds.tolist()) for name in ("a", "c")})
    assert heard[0] == heard[1]


def test_a_track_ends_when_its_windows_do_and_not_by_a_count(listener, tmp_path, monkeypatch):
    class Miscounted(list):
        def __len__(self):
            return super().__len__() - 1  # as a resampler's rounding once made it

    pieces = Miscounted(windows(load_audio(write_song(tmp_path / "song.wav", seconds=24))))
    songs = [("a", tmp_path / "a.wav"), ("b", tmp_path / "b.wav")]
    monkeypatch.setattr(hearing, "stream_windows", lambda *_: pieces)
    heard = list(TrackListener(listener, TRACK_QUESTIONS, batch_size=2).hear(songs))
    assert [(one.track_id, len(one.answers)) for one in heard] == [("a", 6), ("b", 6)]


def test_a_track_that_changes_while_it_is_heard_is_named_and_the_others_are_heard(listener, tmp_path, monkeypatch):
    songs = [(name, write_song(tmp_path / f"{name}.wav", seconds=24)) for name in ("a", "b")]
    pieces = windows(load_audio(songs[0][1]))

    def change(path, *_):
        yield from pieces[:2]
        if path.stem == "a":
            raise AudioError(path, "changed while it was read")
        yield pieces[2]

    monkeypatch.setattr(hearing, "stream_windows", change)
    for batch_size in (1, 2, 64):
        found = {one.track_id: one for one in TrackListener(listener, TRACK_QUESTIONS, batch_size).hear(songs)}
        assert "changed" in found["a"].error and not found["a"].answers
        assert len(found["b"].answers) == 6 and found["b"].error is None


def test_silent_windows_of_a_track_are_left_out(listener, tmp_path):
    waveform = load_audio(write_song(tmp_path / "song.wav", seconds=24))
    waveform[160_000:] = 0
    soundfile.write(tmp_path / "song.flac", waveform, 16_000)
    (heard,) = TrackListener(listener, TRACK_QUESTIONS).hear([("song", tmp_path / "song.flac")])
    assert {said.end_s for said in heard.answers} == {10.0} and heard.error is None
