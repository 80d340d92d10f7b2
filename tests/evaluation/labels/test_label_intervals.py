"""Intervals by artist."""

import numpy as np
from label_systems import random_system

from descant.evaluation.labels import GoldLabels, LabelPredictions, paired_difference, score_intervals, score_labels


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
    assert same.value == 0 and tuple(same.interval) == (0, 0)
    ahead = paired_difference(gold, [told], [worse(told)], "subgenre_macro_f1", n=200)
    assert ahead.value > 0 and ahead.interval.low > 0
