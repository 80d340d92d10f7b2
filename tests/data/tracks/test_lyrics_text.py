"""Lyrics in any encoding and dress come out as clean text, and every rule that acted leaves a note."""

import pytest

from descant.data.tracks.lyrics_text import MAX_CHARACTERS, clean_lyrics, decode_lyrics

WORDS = "Où es-tu, mon cœur?\nJ’ai tout perdu"


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (WORDS.encode(), None),
        (WORDS.encode("utf-8-sig"), None),
        (WORDS.encode("utf-16"), "UTF-16"),
        (b"\xfe\xff" + WORDS.encode("utf-16-be"), "UTF-16"),
        (WORDS.encode("cp1252"), "Windows-1252"),
    ],
)
def test_encodings_are_told_apart_and_guesses_noted(data, note):
    text, notes = decode_lyrics(data)
    assert text.lstrip("\ufeff") == WORDS
    assert (note is None and not notes) or note in notes[0]


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(ValueError, match="NUL"):
        decode_lyrics(b"ID3\0\0\0")


def test_utf8_that_was_read_as_windows_1252_is_mended_or_named():
    broken = WORDS.encode().decode("cp1252")
    assert clean_lyrics(broken).text == WORDS and "mended" in clean_lyrics(broken).notes[0]
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
