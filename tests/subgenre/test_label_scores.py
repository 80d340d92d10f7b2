"""Calibration of probabilities."""

import numpy as np
import pytest
from label_systems import TREE, random_system, track

from descant.subgenre.label_scores import (
    SCORES,
    GoldLabels,
    LabelPredictions,
    gather_gold,
    one_hot_predictions,
    paired_difference,
    reliability_table,
    render_differences,
    render_measured,
    score_intervals,
    score_labels,
)
from descant.subgenre.labels import LabelTree


def test_bins_hold_each_prediction_once_and_both_ends():
    table = reliability_table(np.linspace(0, 1, 101).reshape(1, -1), np.ones((1, 101)))
    assert sum(row.count for row in table) == 101
    assert (table[0].low, table[-1].high) == (0.0, 1.0)
    assert all(row.low <= row.probability <= row.high and row.share_true == 1 for row in table)


@pytest.mark.parametrize(("given", "outcomes"), [([0.5], [1, 0]), ([], []), ([1.2], [1]), ([float("nan")], [1])])
def test_what_is_no_probability_is_refused(given, outcomes):
    with pytest.raises(ValueError, match="probabilities"):
        reliability_table(np.array(given), np.array(outcomes))


def worse(told: LabelPredictions) -> LabelPredictions:
    return LabelPredictions(told.genres[:, ::-1], told.subgenres[:, ::-1], told.chosen[:, ::-1])


def test_value_is_the_score_itself_and_lies_in_its_interval():
    gold, told = random_system()
    plain = score_labels(gold, told)
    for name, (value, (low, high)) in score_intervals(gold, [told], n=200).items():
        assert value == plain[name] and low < value < high


def test_runs_of_a_system_are_averaged():
    gold, told = random_system()
    both = [score_labels(gold, run)["genre_accuracy"] for run in (told, worse(told))]
    assert score_intervals(gold, [told, worse(told)], n=10)["genre_accuracy"][0] == np.mean(both)


def test_tracks_of_an_artist_are_drawn_together():
    gold, told = random_system()
    one_artist = GoldLabels(gold.tree, gold.genre, gold.subgenres, ("artist",) * len(gold.groups))
    low, high = score_intervals(one_artist, [told], n=50)["genre_accuracy"][1]
    assert low == high  # every sample is the same one artist


def test_difference_is_paired():
    gold, told = random_system()
    same = paired_difference(gold, [told], [told], "subgenre_map", n=50)
    assert same.gap == 0 and tuple(same.interval) == (0, 0)
    ahead = paired_difference(gold, [told], [worse(told)], "subgenre_macro_f1", n=200)
    assert ahead.gap > 0 and ahead.interval.low > 0


def test_true_labels_stand_in_the_tree_s_order():
    gold = gather_gold([track(0, "pop", ("pop---punk", "rock---metal"), "A"), track(1, "jazz", ())], TREE)
    assert gold.genre.tolist() == [1, 2]
    assert gold.subgenres.astype(int).tolist() == [[0, 1, 0, 1, 0], [0, 0, 0, 0, 0]]
    assert gold.groups == ("artist A", "track t1")


def test_a_label_that_is_not_in_the_tree_is_named():
    with pytest.raises(ValueError, match="track t0: genre 'polka' is not in the label tree"):
        gather_gold([track(0, "polka", ())], TREE)
    with pytest.raises(ValueError, match="subgenre 'rock---polka' is not in the label tree"):
        gather_gold([track(0, "rock", ("rock---polka",))], TREE)


def test_a_decision_without_a_genre_has_no_probability():
    told = one_hot_predictions([None, "jazz"], [(), ("jazz---bebop",)], TREE)
    assert told.genres.tolist() == [[0, 0, 0], [0, 0, 1]]
    assert np.array_equal(told.chosen, told.subgenres.astype(bool)) and told.chosen.sum() == 1


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


@pytest.mark.parametrize("branches", [{"rock": ("punk",), "jazz": ()}, {"rock": (), "jazz": ()}])
def test_tracks_without_subgenres_are_scored_by_their_genres(branches):
    tree = LabelTree(branches)
    gold = gather_gold([track("a", "rock", ()), track("b", "jazz", ())], tree)
    scores = score_labels(gold, one_hot_predictions(["rock", "rock"], [(), ()], tree))
    assert scores["genre_accuracy"] == 0.5 and scores["subset_accuracy"] == 1.0
    assert scores["subgenre_map"] == scores["hamming_loss"] == 0.0 and np.isfinite([*scores.values()]).all()


def test_predictions_for_other_tracks_are_refused():
    gold, told = random_system(tracks=4)
    with pytest.raises(ValueError, match="genres: 3 predictions for 4 tracks"):
        score_labels(gold, LabelPredictions(told.genres[:3], told.subgenres, told.chosen))
    empty = gather_gold([], TREE)
    with pytest.raises(ValueError, match="no tracks to score"):
        score_labels(empty, told)


def test_table_has_a_row_a_system_and_a_column_a_score():
    gold, told = random_system()
    systems = {name: score_intervals(gold, runs) for name, runs in {"fusion": [told], "lyrics": [told, told]}.items()}
    lines = render_measured(systems).splitlines()
    assert [line.count("|") for line in lines] == [10] * 4
    assert lines[2].startswith("| fusion | ") and "[" in lines[2]


def test_differences_carry_their_sign():
    gold, told = random_system()
    found = {"fusion less lyrics": paired_difference(gold, [told], [told], "genre_macro_f1", n=20)}
    assert "| fusion less lyrics | genre macro f1 | +0.000 | [+0.000, +0.000] |" in render_differences(found)
