"""Plain systems beside the classifier, single modalities, the grid of missing ones, and calibration."""

import numpy as np
import pytest
from label_systems import TREE

from descant.subgenre.comparison import (
    FUSION,
    Comparison,
    TfidfProbe,
    differences_to_others,
    match_labels,
    mean_scores,
    predict_by_asking,
    predict_by_tfidf,
    predict_commonest,
    render_calibration,
    render_comparison,
    render_missing,
)
from descant.subgenre.examples import SubgenreData, gather_examples
from descant.subgenre.hearing import CaptionerAnswer, TrackHearing
from descant.subgenre.label_scores import GoldLabels, LabelPredictions, score_intervals
from descant.subgenre.labels import LabelTree, Track, TrackCorpus, ask_for_genre


def test_the_question_names_every_genre():
    assert ask_for_genre(TREE) == "Which one of these is the main genre of this music: rock, pop or jazz?"


@pytest.mark.parametrize(
    ("answer", "genre", "subgenres"),
    [
        ("This is jazz, with some rock in it.", "jazz", ()),
        ("A bebop tune.", "jazz", ("jazz---bebop",)),
        ("Punk rock.", "rock", ("rock---punk",)),
        ("Disco and punk from the pop charts.", "pop", ("pop---disco", "pop---punk")),
        ("Not rock but pop.", "pop", ()),
        ("Something with strings.", None, ()),
        ("rocking popular jazzmen", None, ()),
    ],
)
def test_names_are_found_as_whole_words_unless_denied(answer, genre, subgenres):
    found = match_labels(answer, TREE)
    assert (found[0], set(found[1])) == (genre, set(subgenres))


def test_synonyms_of_a_label_count():
    tree = LabelTree({"hip-hop": (), "electronic": ()})
    assert match_labels("An electronica track.", tree)[0] == "electronic"
    assert match_labels("Hip hop.", tree)[0] == "hip-hop"


TEXTS = ["the truck and the road", "my truck, my dog", "neon night", "the night club", "a dog, a road", "neon club"]
GENRE = np.array([0, 0, 1, 1, 0, 1])
LABELS = np.eye(2, dtype=bool)[GENRE]


def test_words_of_a_genre_are_learnt():
    genres, subgenres = TfidfProbe(TEXTS, GENRE, LABELS, genres=2).probabilities(["a truck road", "NEON Club's night"])
    assert genres.argmax(axis=1).tolist() == [0, 1] and subgenres.argmax(axis=1).tolist() == [0, 1]


def test_no_known_word_gives_the_shares_of_training():
    genre = np.append(GENRE, 0)
    probe = TfidfProbe([*TEXTS, "the dog and the truck"], genre, np.eye(2)[genre], genres=2)
    genres, _ = probe.probabilities([""])
    assert genres[0, 0] > genres[0, 1] and genres.sum() == pytest.approx(1)


def test_weights_equal_those_of_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    probe = TfidfProbe(TEXTS, GENRE, LABELS, genres=2)
    vectors = probe.vectors(TEXTS).numpy()
    expected = linear.LogisticRegression(C=10.0, tol=1e-10, max_iter=5000).fit(vectors[:, :-1], LABELS[:, 0])
    assert probe.probabilities(TEXTS)[1][:, 0] == pytest.approx(
        expected.predict_proba(vectors[:, :-1])[:, 1], abs=1e-4
    )


def test_vectors_equal_those_of_scikit_learn():
    text = pytest.importorskip("sklearn.feature_extraction.text")
    probe = TfidfProbe(TEXTS, GENRE, LABELS, genres=2)
    reader = text.TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2, token_pattern=r"(?u)\b\w+\b")
    expected = reader.fit_transform(TEXTS).toarray()
    assert list(probe.columns) == list(reader.get_feature_names_out())
    assert probe.vectors(TEXTS).numpy()[:, :-1] == pytest.approx(expected)


SYSTEMS_TWO_GENRES = LabelTree({"jazz": ("swing",), "pop": ("disco",)})
ASKED = ask_for_genre(SYSTEMS_TWO_GENRES)


@pytest.fixture
def data():
    """Eight tracks whose lyrics tell the genre; the captioner answers about two of the test tracks."""
    kinds = [("jazz", "swing")] * 5 + [("pop", "disco")] * 3
    splits = ["train"] * 3 + ["validation", "test", "train", "validation", "test"]
    tracks = [
        Track(str(n), None, f"{genre} words sung {genre}", None, genre, (f"{genre}---{name}",), "en", split, "test")
        for n, ((genre, name), split) in enumerate(zip(kinds, splits, strict=True))
    ]
    tracks.append(Track("9", None, "more jazz words sung", None, "jazz", (), "en", "train", "test"))
    tracks.append(Track("10", None, "pop words sung pop", None, "pop", ("pop---disco",), "en", "train", "test"))
    answers = ["it is pop", "a disco song", "it is jazz", "it is pop"]
    said = tuple(CaptionerAnswer(10.0 * n, 10.0 * n + 10, ASKED, answer) for n, answer in enumerate(answers))
    hearings = {"4": TrackHearing("4", said, np.ones(2)), "7": TrackHearing("7", error="bad")}
    corpus = TrackCorpus(tracks, SYSTEMS_TWO_GENRES, "test", "cc0-1.0", "1")
    by_split = {split: corpus.split(split) for split in ("train", "validation", "test")}
    examples = {split: gather_examples(part, hearings, (), SYSTEMS_TWO_GENRES) for split, part in by_split.items()}
    return SubgenreData(corpus, "captioner", (), {}, by_split, hearings, examples)


def test_the_commonest_genre_and_its_commonest_subgenres_are_told_for_all(data):
    told = predict_commonest(data, "test")
    assert told.genres.tolist() == [[1, 0], [1, 0]] and told.chosen.tolist() == [[True, False], [True, False]]


def test_the_answer_to_most_windows_counts_and_no_answer_is_no_genre(data):
    told = predict_by_asking(data, "test")
    assert told.genres.tolist() == [[0, 1], [0, 0]]
    assert told.chosen.tolist() == [[False, False], [False, False]]


@pytest.mark.parametrize("captions", [False, True])
def test_words_tell_the_genre(data, captions):
    told = predict_by_tfidf(data, "test", captions)
    assert told.genres.argmax(axis=1).tolist() == [0, 1]
    assert told.chosen.tolist() == [[True, False], [False, True]]


TWO_GENRES = LabelTree({"jazz": ("swing",), "pop": ("disco",)})


def tell(genres: list[int]) -> LabelPredictions:
    chosen = np.eye(2, dtype=bool)[genres]
    return LabelPredictions(0.1 + 0.8 * chosen, 0.1 + 0.8 * chosen, chosen)


@pytest.fixture
def found() -> Comparison:
    truth = [0, 1, 0, 1, 0, 1]
    gold = GoldLabels(TWO_GENRES, np.array(truth), np.eye(2, dtype=bool)[truth], tuple("aabbcc"))
    right, wrong = tell(truth), tell([0, 0, 0, 0, 0, 0])
    systems = {FUSION: [right, right], "lyrics": [wrong, wrong], "audio": [right, wrong]}
    measured = {name: score_intervals(gold, runs) for name, runs in systems.items()}
    visible = {("lyrics", "audio"): [right, right], ("audio",): [wrong, wrong]}
    return Comparison("test", gold, systems, measured, visible)


def test_fusion_is_set_beside_every_other_system(found):
    gaps = differences_to_others(found)
    assert set(gaps) == {f"fusion − {one} ({level})" for one in ("lyrics", "audio") for level in ("genre", "subgenre")}
    assert gaps["fusion − lyrics (genre)"].gap == pytest.approx(1 - 1 / 3)
    assert gaps["fusion − lyrics (genre)"].interval.low > 0


def test_the_grid_compares_with_the_best_of_what_is_seen(found):
    rows = render_missing(found).splitlines()[2:]
    both, audio = ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)
    assert both[:2] == ["lyrics + audio", "1.000"] and both[4].startswith("+33.3 [")
    assert audio[0] == "audio" and audio[4].startswith("-33.3 [")


def test_scores_are_means_over_seeds(found):
    assert mean_scores(found.gold, found.systems["audio"])["genre_accuracy"] == pytest.approx(0.75)


def test_calibration_says_what_came_true(found):
    text = render_calibration(found)
    assert "0.100 of the likeliest genre" in text and "| 0.8–0.9 | 12 | 0.900 | 1.000 |" in text


def test_the_report_holds_all_parts(found):
    text = render_comparison(found)
    assert text.startswith("# Subgenres of 6 test tracks by 3 artists\n") and "mean of 2 seeds" in text
    assert text.count("\n## ") == 3
