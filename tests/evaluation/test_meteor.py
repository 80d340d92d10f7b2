"""METEOR's words, stems and choice among references."""

from nltk.stem.porter import PorterStemmer

from descant.evaluation.meteor import STEMS, meteor_scores, split_words


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
