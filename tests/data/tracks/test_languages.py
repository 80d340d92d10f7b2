"""The language of lyrics is told where they have one."""

import pytest

from descant.data.tracks.demo_tracks import load_demo_tracks
from descant.data.tracks.languages import detect_language


def test_languages_of_the_demo_lyrics_are_told():
    sung = [track for track in load_demo_tracks().tracks if track.lyrics][::12]
    assert all(detect_language(track.lyrics) == track.language for track in sung)


@pytest.mark.parametrize("words", ["la la la la la", "oh oh oh yeah", "love", "12345", "...", "na na na hey hey"])
def test_words_of_no_language_are_undetermined(words):
    assert detect_language(words) == "und"


def test_other_scripts_are_told():
    assert detect_language("夜の街を歩きながら君のことを思い出す") == "ja"
