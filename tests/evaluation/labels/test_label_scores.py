"""Scores of labels against values by hand and those of scikit-learn."""

import numpy as np
import pytest
from label_systems import TREE, random_system, track

from descant.evaluation.labels import SCORES, LabelPredictions, gather_gold, one_hot_predictions, score_labels


def test_scores_equal_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    gold, told = random_system()
    decided = told.genres.argmax(axis=1)
    expected = {
        "genre_accuracy": metrics.accuracy_score(gold.genre, decided),
        "genre_macro_f1": metrics.f1_score(gold.genre, decided, average="macro"),
        "subgenre_micro_f1": metrics.f1_score(gold.subgenres, told.chosen, average="micro"),
        "subgenre_macro_f1": metrics.f1_score(gold.subgenres, told.chosen, average="macro"),
        "subgenre_map": metrics.average_precision_score(gold.subgenres, told.subgenres, average="macro"),
        "hamming_loss": metrics.hamming_loss(gold.subgenres, told.chosen),
        "subset_accuracy": metrics.accuracy_score(gold.subgenres, told.chosen),
    }
    found = score_labels(gold, told)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_hierarchical_f1_gives_credit_for_the_right_genre():
    gold = gather_gold([track(0, "rock", ("rock---punk",)), track(1, "pop", ("pop---disco",))], TREE)
    told = one_hot_predictions(["rock", "jazz"], [("rock---metal",), ()], TREE)
    # {rock, punk} against {rock, metal}, {pop, disco} against {jazz}: 1 common label, 4 true ones, 3 told ones.
    assert score_labels(gold, told)["hierarchical_f1"] == pytest.approx(2 * 1 / 7)


def test_a_subgenre_of_another_genre_brings_its_own_genre_along():
    gold = gather_gold([track(0, "rock", ("pop---disco",))], TREE)
    told = one_hot_predictions(["rock"], [("pop---disco",)], TREE)
    assert score_labels(gold, told)["hierarchical_f1"] == 1


def test_no_decision_about_the_genre_is_wrong_and_not_the_first_genre():
    gold = gather_gold([track(0, "rock", ("rock---punk",))], TREE)
    assert score_labels(gold, one_hot_predictions([None], [()], TREE))["genre_accuracy"] == 0


@pytest.mark.parametrize("name", SCORES)
def test_a_weight_counts_a_track_that_often(name):
    gold, told = random_system(tracks=20)
    weights = np.random.default_rng(1).integers(0, 3, 20)
    rows = np.repeat(np.arange(20), weights)
    repeated = type(gold)(gold.tree, gold.genre[rows], gold.subgenres[rows], tuple(gold.groups[row] for row in rows))
    again = LabelPredictions(told.genres[rows], told.subgenres[rows], told.chosen[rows])
    found = SCORES[name](gold, told)(weights[None].astype(float))
    assert found == pytest.approx(SCORES[name](repeated, again)(np.ones((1, len(rows)))))


def test_predictions_for_other_tracks_are_refused():
    gold, told = random_system(tracks=4)
    with pytest.raises(ValueError, match="genres: 3 predictions for 4 tracks"):
        score_labels(gold, LabelPredictions(told.genres[:3], told.subgenres, told.chosen))
    empty = gather_gold([], TREE)
    with pytest.raises(ValueError, match="no tracks to score"):
        score_labels(empty, told)
