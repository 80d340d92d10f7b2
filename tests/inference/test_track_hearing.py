"""A captioner's hearing of whole tracks: answers in order, the embedding's mean, bad files named."""

import numpy as np
import pytest
import torch
from tiny import build_tiny_model, save_tiny_model, write_song

from descant.data.audio import load_audio, windows
from descant.inference.listener import Listener
from descant.inference.track_hearing import TrackListener, hash_captioner, one_ahead

QUESTIONS = ("What is the genre?", None)


@pytest.fixture(scope="module")
def listener():
    return Listener(*build_tiny_model(), "tiny")


def test_every_window_is_asked_every_question_in_order_and_a_bad_file_is_named(listener, tmp_path):
    songs = {"long": write_song(tmp_path / "long.wav"), "short": write_song(tmp_path / "short.wav", seconds=4)}
    tracks = [("long", songs["long"]), ("gone", tmp_path / "gone.wav"), ("short", songs["short"])]
    heard = {one.track_id: one for one in TrackListener(listener, QUESTIONS, batch_size=2).hear(tracks)}
    assert heard.keys() == {"long", "gone", "short"}
    spans = [(said.start_s, said.end_s, said.question) for said in heard["long"].said]
    assert spans == [(start, min(start + 10, 25), question) for start in (0, 10, 20) for question in QUESTIONS]
    assert heard["gone"].said == () and heard["gone"].audio_embeds is None
    assert "gone.wav: does not exist" in heard["gone"].error
    assert heard["short"].sentences(QUESTIONS[:1]) == [heard["short"].said[0].answer]


def test_a_track_is_heard_alike_alone_and_among_others(listener, tmp_path):
    songs = [("a", write_song(tmp_path / "a.wav", 12)), ("b", write_song(tmp_path / "b.wav", 12, start_hertz=220))]
    together = {one.track_id: one for one in TrackListener(listener, QUESTIONS).hear(songs)}
    for song in songs:
        (alone,) = TrackListener(listener, QUESTIONS).hear([song])
        assert alone.said == together[song[0]].said
        np.testing.assert_array_equal(alone.audio_embeds, together[song[0]].audio_embeds)


def test_the_embedding_is_the_mean_over_positions_and_over_windows_by_their_length(listener, tmp_path):
    song = write_song(tmp_path / "song.wav", seconds=14)
    (heard,) = TrackListener(listener, QUESTIONS).hear([("song", song)])
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
    assert hash_captioner(first) == hash_captioner(copy) != hash_captioner(other)


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
