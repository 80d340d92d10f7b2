"""What is tuned on validation tracks after training."""

import numpy as np
import pytest
from tiny_classifier import TREE, build_classifier, make_examples

from descant.data.tracks import LabelTree
from descant.evaluation.labels import GoldLabels
from descant.training.subgenre.examples import ExampleInputs
from descant.training.subgenre.tuning import FEWER, tune_on_validation


@pytest.mark.parametrize("fusion", ["late", "cross_attention"])
def test_thresholds_of_all_labels_and_a_scale_for_every_subset_are_kept_in_the_configuration(fusion):
    model, processor = build_classifier(fusion)
    examples = ExampleInputs(make_examples(), processor)
    tree = LabelTree({genre: tuple(names) for genre, names in TREE.items()})
    labels = examples.labels.bool().numpy()
    gold = GoldLabels(tree, labels[:, :2].argmax(axis=1), labels[:, 2:], tuple("abcd"))
    tune_on_validation(model, examples, gold, processor.tokenizer.pad_token_id)
    assert set(model.config.thresholds) == set(model.config.label2id)
    assert set(model.config.threshold_scales) == {"+".join(one) for one in FEWER}
    expected = model.config.threshold_scales["audio"] * np.array(model.config.list_thresholds())
    np.testing.assert_allclose(model.config.list_thresholds(["audio"]), expected)
