"""Thresholds tuned on validation tracks."""

import numpy as np
import pytest

from descant.data.tracks import LabelTree
from descant.evaluation.labels import GoldLabels
from descant.training.subgenre.thresholds import tune_scale, tune_thresholds

TREE = LabelTree({"jazz": ("swing",), "pop": ("disco",)})


def make_gold(genre: list[int]) -> GoldLabels:
    subgenres = np.eye(2, dtype=bool)[genre]
    return GoldLabels(TREE, np.array(genre), subgenres, tuple(map(str, range(len(genre)))))


def make_probabilities(genre: list[int], low: float, high: float) -> np.ndarray:
    right = np.eye(2)[genre]
    return np.concatenate([0.1 + 0.8 * right, low + (high - low) * right], axis=1)


def test_subgenres_share_the_threshold_that_parts_right_from_wrong():
    genre = [0, 1, 0, 1]
    likely = make_probabilities(genre, low=0.1, high=0.3)
    likely[:, :2] = 0.8  # both genres are named everywhere: the threshold alone decides
    found = tune_thresholds(likely, make_gold(genre))
    assert found["jazz---swing"] == found["pop---disco"]
    assert 0.1 / 0.8 < found["pop---disco"] <= 0.3 / 0.8


def test_a_subgenre_with_many_tracks_has_a_threshold_of_its_own():
    genre = [0] * 12 + [1, 1]
    likely = make_probabilities(genre, low=0.1, high=0.3)
    likely[:, 0], likely[:, 2] = 1.0, np.where(np.array(genre) == 0, 0.85, 0.62)
    found = tune_thresholds(likely, make_gold(genre))
    assert 0.62 < found["jazz---swing"] <= 0.85
    assert found["pop---disco"] != found["jazz---swing"]


@pytest.mark.parametrize("label", ["jazz", "pop"])
def test_genres_have_the_threshold_that_names_the_right_ones(label):
    genre = [0, 1, 0, 1]
    assert 0.1 < tune_thresholds(make_probabilities(genre, 0.1, 0.9), make_gold(genre))[label] <= 0.9


def test_thresholds_fall_where_probabilities_do():
    genre = [0, 1, 0, 1]
    likely = make_probabilities(genre, low=0.02, high=0.2)
    likely[:, :2] = 0.8
    assert 0.1 < tune_scale(likely, make_gold(genre), np.full(4, 0.5)) <= 0.5
