"""Tests that each piece of a track can be taken away, and what is left."""

import numpy as np

from descant.inference.track_hearing import Said
from descant.inference.track_parts import MAX_PASSAGES, TrackParts, take_pieces_away

GENRE, MOOD = "What is the genre?", "What is the mood?"
SAID = (Said(0, 10, GENRE, "jazz"), Said(0, 10, MOOD, "calm"), Said(10, 14, GENRE, "jazz"), Said(10, 14, MOOD, " "))
EMBEDS = np.array([[1.0, 2.0], [3.0, 6.0]], dtype=np.float32)
TRACK = TrackParts("one\n\ntwo\nthree", SAID, EMBEDS, ((0, 10), (10, 14)))


def pieces_of(kind: str, track: TrackParts = TRACK) -> list:
    return [(piece, rest) for piece, rest in take_pieces_away(track) if piece.kind == kind]


def test_a_line_of_the_lyrics_is_a_piece_and_the_others_stay() -> None:
    assert [(piece.text, rest.lyrics) for piece, rest in pieces_of("lyrics")] == [
        ("one", "two\nthree"), ("two", "one\nthree"), ("three", "one\ntwo"),
    ]  # fmt: skip
    assert all(rest.said == SAID for _, rest in pieces_of("lyrics"))


def test_long_lyrics_are_a_few_passages_that_hold_every_line() -> None:
    lines = [f"line {number}" for number in range(1001)]
    found = pieces_of("lyrics", TrackParts("\n".join(lines)))
    assert len(found) == MAX_PASSAGES
    assert "\n".join(piece.text for piece, _ in found).splitlines() == lines
    assert all(len(rest.lyrics.splitlines()) + len(piece.text.splitlines()) == 1001 for piece, rest in found)


def test_the_only_line_leaves_no_lyrics() -> None:
    ((piece, rest),) = take_pieces_away(TrackParts("la la la"))
    assert piece.text == "la la la" and rest.lyrics is None and rest.modalities == []


def test_an_answer_given_about_several_windows_is_one_piece() -> None:
    (jazz, without_jazz), (calm, without_calm) = pieces_of("captions")
    assert (jazz.question, jazz.text, jazz.spans) == (GENRE, "jazz", ((0, 10), (10, 14)))
    assert without_jazz.captions == ["calm"] and without_calm.captions == ["jazz", "jazz"]
    assert calm.spans == ((0, 10),)


def test_without_a_window_its_embedding_is_not_in_the_mean() -> None:
    np.testing.assert_allclose(TRACK.audio_embeds, [(10 * 1 + 4 * 3) / 14, (10 * 2 + 4 * 6) / 14])
    (first, rest), _ = pieces_of("audio")
    assert first.spans == ((0, 10),) and rest.audio_embeds.tolist() == [3.0, 6.0] and rest.spans == ((10, 14),)
    (_, nothing) = pieces_of("audio", rest)[0]
    assert nothing.audio_embeds is None and nothing.modalities == ["lyrics", "captions"]
