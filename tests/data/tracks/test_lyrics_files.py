"""Lyrics beside the sound come before those in its tags."""

import numpy as np
import pytest
import soundfile

from descant.data.tracks import lyrics_files
from descant.data.tracks.lyrics_files import find_lyrics, read_lyrics_file


@pytest.fixture
def song(tmp_path):
    soundfile.write(tmp_path / "song.ogg", 0.1 * np.sin(np.arange(16_000)), 16_000)
    return tmp_path / "song.ogg"


def test_lrc_comes_before_txt_and_both_before_tags(song):
    assert find_lyrics(song).text is None
    file = pytest.importorskip("mutagen").File(song)
    file["LYRICS"] = "in the tags"
    file.save()
    assert find_lyrics(song).text == "in the tags"
    song.with_suffix(".txt").write_text("beside")
    assert find_lyrics(song).text == "beside"
    song.with_suffix(".lrc").write_text("[00:01.00]on time")
    assert find_lyrics(song).text == "on time"


def test_tags_are_left_alone_where_mutagen_is_missing(song, monkeypatch):
    monkeypatch.setattr(lyrics_files, "can_read_tags", lambda: False)
    assert find_lyrics(song).text is None


def test_notes_of_decoding_and_cleaning_are_kept(tmp_path):
    (tmp_path / "a.txt").write_bytes("<b>né</b>".encode("cp1252"))
    found = read_lyrics_file(tmp_path / "a.txt")
    assert found.text == "né" and len(found.notes) == 2


def test_files_that_are_no_lyrics_are_named(tmp_path, monkeypatch):
    (tmp_path / "passwords").touch()
    (tmp_path / "cover.txt").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "long.txt").write_bytes(b"la" * 100)
    for name, reason in [("passwords", "neither .lrc nor .txt"), ("none.txt", "cannot be read"), ("cover.txt", "NUL")]:
        with pytest.raises(ValueError, match=f"lyrics file {name}: .*{reason}"):
            read_lyrics_file(tmp_path / name)
    monkeypatch.setattr(lyrics_files, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="which no lyrics have"):
        read_lyrics_file(tmp_path / "long.txt")
