"""The language of lyrics is told where they have one."""

import os

import numpy as np
import pytest
import soundfile

from descant.subgenre import lyrics
from descant.subgenre.lyrics import (
    MAX_CHARACTERS,
    clean_lyrics,
    decode_lyrics,
    detect_language,
    find_lyrics,
    read_lyrics_file,
    read_tags,
)
from descant.subgenre.reading_tracks import load_demo_tracks


def test_languages_of_the_demo_lyrics_are_told():
    sung = [track for track in load_demo_tracks().tracks if track.lyrics][::12]
    assert all(detect_language(track.lyrics) == track.language for track in sung)


@pytest.mark.parametrize("words", ["la la la la la", "oh oh oh yeah", "love", "12345", "...", "na na na hey hey"])
def test_words_of_no_language_are_undetermined(words):
    assert detect_language(words) == "und"


def test_other_scripts_are_told():
    assert detect_language("夜の街を歩きながら君のことを思い出す") == "ja"


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

    from descant.subgenre.lyrics import _find_artist, _find_lyrics

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
    monkeypatch.setattr(lyrics, "can_read_tags", lambda: False)
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
    monkeypatch.setattr(lyrics, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="which no lyrics have"):
        read_lyrics_file(tmp_path / "long.txt")


def test_pipes_and_devices_are_never_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")  # opening it would wait for a writer
    (tmp_path / "endless.lrc").symlink_to("/dev/zero")
    for name in ("pipe.txt", "endless.lrc"):
        with pytest.raises(ValueError, match=f"lyrics file {name}: is not a regular file"):
            read_lyrics_file(tmp_path / name)


LYRIC_WORDS = "Où es-tu, mon cœur?\nJ’ai tout perdu"


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (LYRIC_WORDS.encode(), None),
        (LYRIC_WORDS.encode("utf-8-sig"), None),
        (LYRIC_WORDS.encode("utf-16"), "UTF-16"),
        (b"\xfe\xff" + LYRIC_WORDS.encode("utf-16-be"), "UTF-16"),
        (LYRIC_WORDS.encode("cp1252"), "Windows-1252"),
    ],
)
def test_encodings_are_told_apart_and_guesses_noted(data, note):
    text, notes = decode_lyrics(data)
    assert text.lstrip("\ufeff") == LYRIC_WORDS
    assert (note is None and not notes) or note in notes[0]


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(ValueError, match="NUL"):
        decode_lyrics(b"ID3\0\0\0")


def test_utf8_that_was_read_as_windows_1252_is_mended_or_named():
    broken = LYRIC_WORDS.encode().decode("cp1252")
    assert clean_lyrics(broken).text == LYRIC_WORDS and "mended" in clean_lyrics(broken).notes[0]
    assert clean_lyrics("À CÔTÉ".encode().decode("latin-1")).text == "À CÔTÉ"
    assert clean_lyrics("CÔTÉ".encode().decode("cp1252")).text == "CÔTÉ"
    mixed = clean_lyrics(broken + "\nœuvre Ж")
    assert mixed.text.endswith("Ж") and "cannot be undone" in mixed.notes[0]


@pytest.mark.parametrize("text", ["Ça va, Ângela?", "Ã, diz a avó: não", "A < B and B > C", "R&B; love <3 you"])
def test_honest_text_is_left_alone(text):
    assert clean_lyrics(text) == clean_lyrics(text).__class__(text, [])


def test_html_is_taken_out():
    page = "<div class='x'>Hold me&nbsp;close<br>R&amp;B<br/>it&#39;s late</div><script>no('x')</script><!-- ad -->"
    assert clean_lyrics(page).text == "Hold me close\nR&B\nit's late"
    assert clean_lyrics(page).notes == ["HTML was taken out of the lyrics"]


def test_time_stamps_and_tags_of_lrc_are_taken_out():
    text = "[ar:Somebody]\n[00:12.34]First line\n[00:15.00][01:15.00] Twice <00:16.10>sung\n\n[Chorus]\nNo stamp"
    assert clean_lyrics(text).text == "First line\nTwice sung\n\n[Chorus]\nNo stamp"


@pytest.mark.parametrize("text", ["", " \n\t", "<p></p>", "[00:01.00]", "\ufeff"])
def test_empty_lyrics_are_none_with_a_reason(text):
    assert clean_lyrics(text).text is None and clean_lyrics(text).notes[-1] == "lyrics are empty"


@pytest.mark.parametrize("text", ["[Instrumental]", "(instrumental)", "[00:00.00] *Instrumental*", "No lyrics."])
def test_instrumentals_are_none_with_a_reason(text):
    assert clean_lyrics(text).text is None and clean_lyrics(text).notes[-1] == "is marked as instrumental"


def test_an_instrumental_break_does_not_make_an_instrumental():
    assert clean_lyrics("Hey\n[Instrumental]\nHo").text == "Hey\n[Instrumental]\nHo"


def test_a_megabyte_of_lyrics_is_kept_to_the_last_whole_line_below_the_limit_and_noted():
    found = clean_lyrics("all night long\n" * 70_000)
    assert found.text == "\n".join(["all night long"] * (MAX_CHARACTERS // 15))
    assert found.notes == ["lyrics have 1,049,999 characters, over 50,000: the first 49,994 are kept"]


def test_hostile_markup_is_cleaned_in_linear_time():
    assert clean_lyrics("<" * 200_000 + "a").text
    assert clean_lyrics("\n" * 200_000 + "a").text == "a"
    assert clean_lyrics("<" + " " * 200_000 + "a").text == "< a"
    assert clean_lyrics("<script" * 100_000) is not None
    assert clean_lyrics("[00:" * 100_000) is not None


def test_control_characters_and_line_ends_are_made_plain():
    assert clean_lyrics("one\r\ntwo\x00\rthree\x1b[0m\n\n\n\nfour  ").text == "one\ntwo\nthree [0m\n\nfour"
