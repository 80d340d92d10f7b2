"""What a classifier says with some of the modalities hidden."""

import numpy as np
import pytest
import torch
from tiny_classifier import build_classifier, make_examples

from descant.training.subgenre.examples import ExampleInputs
from descant.training.subgenre.prediction import decide, predict_probabilities


@pytest.fixture(scope="module", params=["late", "cross_attention"])
def classifier(request):
    return build_classifier(request.param)


@pytest.mark.parametrize("seen", [("lyrics", "captions", "audio"), ("captions",), ("lyrics", "audio"), ()])
def test_hiding_a_modality_is_as_if_the_track_had_none_of_it(classifier, seen):
    model, processor = classifier
    pad = processor.tokenizer.pad_token_id
    hidden = predict_probabilities(model, ExampleInputs(make_examples(), processor), pad, 3, seen)
    lacking = ExampleInputs([example.keep(seen) for example in make_examples()], processor)
    np.testing.assert_allclose(hidden, predict_probabilities(model, lacking, pad, 1), atol=1e-6)


def test_no_subgenre_is_decided_without_its_genre(classifier):
    model, _ = classifier
    model.config.thresholds = {"jazz": 0.9, "pop": 0.9, "jazz---swing": 0.1, "pop---disco": 0.5, "pop---ballad": 0.5}
    model.config.threshold_scales = {"lyrics": 0.9}
    likely = np.array([[0.4, 0.6, 0.3, 0.35, 0.29]] * 2, np.float32)
    told = decide(likely, model.config, torch.tensor([[1, 1, 1], [1, 0, 0]]))
    model.config.thresholds = model.config.threshold_scales = {}
    assert told.chosen.tolist() == [[False, True, False], [False, True, True]]
