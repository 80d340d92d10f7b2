"""WordNet from its own files, and METEOR's other name without it."""

import pytest

from descant.evaluation import meteor, wordnet
from descant.evaluation.wordnet import NoWordNet, load_wordnet, read_plain_wordnet

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
    monkeypatch.setattr(wordnet.nltk.data, "path", [])
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
