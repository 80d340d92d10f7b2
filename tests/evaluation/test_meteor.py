"""METEOR's words, stems and choice among references."""

import pytest
from nltk.stem.porter import PorterStemmer

from descant.evaluation import meteor
from descant.evaluation.meteor import STEMS, NoWordNet, load_wordnet, meteor_scores, read_plain_wordnet, split_words


def test_full_stops_inside_a_text_are_words_of_their_own() -> None:
    assert split_words("It's slow. No drums!") == ["It", "'s", "slow", ".", "No", "drums", "!"]


def test_numbers_and_abbreviations_stay_whole() -> None:
    assert split_words("At 4.5 s") == ["At", "4.5", "s"]


def test_remembered_stems_are_porters() -> None:
    words = ["singing", "drums", "melodies", "electronically"]
    assert [STEMS.stem(word) for word in words * 2] == [PorterStemmer().stem(word) for word in words * 2]


def test_the_best_reference_counts() -> None:
    (best,) = meteor_scores(["sad piano"], [["loud drums", "sad piano"]], split_words)
    (only,) = meteor_scores(["sad piano"], [["sad piano"]], split_words)
    assert best == only > 0.9


HEADER = "  1 This is a test of the format.\n"
TRACK = "00000034 04 n 02 track 0 song 0 000 | a piece of music  \n"


@pytest.fixture
def dictionary(tmp_path, monkeypatch):
    """A dictionary of one synset, in WordNet's own format."""
    for part in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_text(HEADER + (TRACK if part == "noun" else ""))
        index = "".join(f"{word} n 1 0 1 0 00000034  \n" for word in ("song", "track")) if part == "noun" else ""
        (tmp_path / f"index.{part}").write_text(HEADER + index)
        (tmp_path / f"{part}.exc").write_text("")
    monkeypatch.setattr(meteor.nltk.data, "path", [])
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    load_wordnet.cache_clear()
    yield tmp_path
    load_wordnet.cache_clear()


def test_wordnets_own_files_are_read_without_nltks_additions(dictionary) -> None:
    (synset,) = read_plain_wordnet(dictionary).synsets("song")
    assert synset.lemma_names() == ["track", "song"]
    assert synset.lexname() == "noun.act"


def test_the_folder_of_wnsearchdir_is_found(dictionary) -> None:
    assert load_wordnet().source == "WordNet's own files"
    assert meteor.meteor_name() == "meteor"
    assert meteor.meteor_scores(["a song"], [["a track"]], str.split)[0] > 0.9


def test_without_wordnet_the_score_has_another_name(dictionary, monkeypatch) -> None:
    monkeypatch.setenv("WNSEARCHDIR", str(dictionary / "nowhere"))
    assert isinstance(load_wordnet(), NoWordNet)
    assert meteor.meteor_name() == "meteor_no_wordnet"
    assert meteor.meteor_scores(["a song"], [["a track"]], str.split)[0] < 0.5
