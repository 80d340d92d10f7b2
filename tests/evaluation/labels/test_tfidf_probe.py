"""The plain reader of lyrics."""

import numpy as np
import pytest

from descant.evaluation.labels import TfidfProbe

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
    assert list(probe.places) == list(reader.get_feature_names_out())
    assert probe.vectors(TEXTS).numpy()[:, :-1] == pytest.approx(expected)
