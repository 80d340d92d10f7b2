"""Lyrics and artists come out of every common kind of tag."""

import numpy as np
import pytest
import soundfile

from descant.data.tracks.lyric_tags import read_tags

mutagen = pytest.importorskip("mutagen")
WORDS = "Halt mich fest\nschöne Nacht"


@pytest.fixture
def sound(tmp_path):
    def make(suffix: str):
        path = tmp_path / f"song{suffix}"
        soundfile.write(path, 0.1 * np.sin(np.arange(16_000)), 16_000)
        return path

    return make


def tag_id3(path, *frames):
    from mutagen.id3 import ID3

    tags = ID3()
    for frame in frames:
        tags.add(frame)
    tags.save(path)


def test_unsynchronised_lyrics_and_artist_of_id3_are_read(sound):
    from mutagen.id3 import TPE1, USLT

    path = sound(".mp3")
    tag_id3(path, USLT(encoding=3, lang="deu", desc="", text=WORDS), TPE1(encoding=3, text=["Ada"]))
    assert read_tags(path) == (WORDS, "Ada")


@pytest.mark.parametrize("texts", [["Halt mich fest", "schöne Nacht"], ["Halt ", "mich fest", "\nschöne ", "Nacht"]])
def test_synchronised_lyrics_are_joined_line_by_line(sound, texts):
    from mutagen.id3 import SYLT, USLT

    path = sound(".mp3")
    timed = [(text, 1000 * number) for number, text in enumerate(texts)]
    tag_id3(path, USLT(encoding=3, lang="deu", desc="", text=" "),
            SYLT(encoding=3, lang="deu", format=2, type=1, desc="", text=timed))  # fmt: skip
    assert read_tags(path) == (WORDS, None)


@pytest.mark.parametrize(("suffix", "name"), [(".ogg", "LYRICS"), (".flac", "lyrics"), (".flac", "UNSYNCEDLYRICS")])
def test_vorbis_comments_are_read(sound, suffix, name):
    path = sound(suffix)
    file = mutagen.File(path)
    if file.tags is None:
        file.add_tags()
    file[name], file["Artist"] = WORDS, "Bruno"
    file.save()
    assert read_tags(path) == (WORDS, "Bruno")


def test_mp4_lyrics_are_found_by_their_atom():
    from mutagen.mp4 import MP4Tags

    from descant.data.tracks.lyric_tags import _find_artist, _find_lyrics

    tags = MP4Tags()
    tags["\xa9lyr"], tags["\xa9ART"] = [WORDS], ["Celine"]
    assert (_find_lyrics(tags), _find_artist(tags)) == (WORDS, "Celine")


def test_a_file_without_tags_has_neither(sound):
    assert read_tags(sound(".wav")) == (None, None)


def test_damaged_tags_are_named(sound):
    path = sound(".flac")
    path.write_bytes(b"fLaC" + b"\x04\xff\xff\xff" + b"x" * 50)
    with pytest.raises(ValueError, match="tags cannot be read"):
        read_tags(path)
    path.with_suffix(".mp3").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="tags cannot be read"):
        read_tags(path.with_suffix(".mp3"))
