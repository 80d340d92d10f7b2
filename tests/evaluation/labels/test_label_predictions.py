"""Labels of tracks as arrays."""

import numpy as np
import pytest
from label_systems import TREE, track

from descant.evaluation.labels import gather_gold, one_hot_predictions


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
