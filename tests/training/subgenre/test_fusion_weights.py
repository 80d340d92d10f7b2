"""How much each modality counts, fitted on validation tracks."""

import numpy as np
import pytest
import torch
from tiny_classifier import build_classifier, make_examples

from descant.training.subgenre.examples import ExampleInputs
from descant.training.subgenre.fusion_weights import fit_weights, read_words, set_prior
from descant.training.subgenre.prediction import predict_probabilities

LYRICS, CAPTIONS, AUDIO = 1, 2, 4  # bits of a subset's number


@pytest.fixture
def contrary():
    """A classifier whose audio tells the labels and whose captions tell the opposite, and two tracks with both."""
    model, processor = build_classifier("late")
    examples = [one.keep(("captions", "audio")) for one in make_examples() if one.audio_embeds is not None]
    inputs = ExampleInputs(examples, processor)
    with torch.no_grad():
        for expert, sign in zip(model.fusion.experts, (0.0, -1.0, 1.0), strict=True):
            expert.norm = torch.nn.Identity()
            expert.output.weight.zero_()
            expert.output.bias.zero_()
            expert.output.weight[:, : len(examples)] = sign * (2 * inputs.labels.T - 1)
        summaries = torch.eye(8)[: len(examples)] * 4
        model.encode_windows = lambda ids, mask, kind: summaries[: len(ids)]
        model.audio_projection.forward = lambda embeds: summaries[: len(embeds)]
    return model, inputs, processor.tokenizer.pad_token_id


def test_words_and_weights_make_the_logits_of_what_is_there():
    model, processor = build_classifier("late")
    inputs, pad = ExampleInputs(make_examples(), processor), processor.tokenizer.pad_token_id
    words, there = read_words(model, inputs, pad)
    assert there.tolist() == [[True] * 3, [False, True, True], [True, False, False], [False] * 3]
    mean = (words * there.T[:, :, None]).sum(dim=0) / there.sum(dim=1).clamp(min=1)[:, None]
    expected = mean[:, :2].sigmoid()
    np.testing.assert_allclose(predict_probabilities(model, inputs, pad)[:, :2], expected.numpy(), atol=1e-6)


def test_a_modality_that_says_the_wrong_thing_comes_to_count_less_than_one_that_is_right(contrary):
    model, inputs, pad = contrary
    before = _loss(model, inputs, pad)
    fit_weights(model, inputs, pad)
    of_genre = model.fusion.weights[:, :, 0]
    assert of_genre[CAPTIONS | AUDIO, 1] < 0.5 < of_genre[CAPTIONS | AUDIO, 2]
    assert of_genre[CAPTIONS, 1] < 1 < of_genre[AUDIO, 2]
    assert _loss(model, inputs, pad) < before


def test_genres_share_a_weight_and_so_do_subgenres_and_unseen_subsets_keep_theirs(contrary):
    model, inputs, pad = contrary
    before = model.fusion.weights.clone()
    fit_weights(model, inputs, pad)
    after = model.fusion.weights[CAPTIONS | AUDIO]
    assert (after[:, :2] == after[:, :1]).all() and (after[:, 2:] == after[:, 2:3]).all()
    for subset in (LYRICS, LYRICS | AUDIO, LYRICS | CAPTIONS | AUDIO):
        assert torch.equal(model.fusion.weights[subset], before[subset])


def test_a_track_of_which_nothing_is_known_has_the_labels_that_are_common():
    model, processor = build_classifier("late")
    set_prior(model, torch.tensor([[1.0, 0, 1, 0, 0], [0, 1, 0, 1, 0], [0, 1, 0, 1, 0]]))
    nothing = ExampleInputs(make_examples()[3:], processor)
    (found,) = predict_probabilities(model, nothing, processor.tokenizer.pad_token_id)
    np.testing.assert_allclose(found[:2], [1.5 / 4, 2.5 / 4], rtol=1e-5)
    np.testing.assert_allclose(found[2:] / found[[0, 1, 1]], [1.5 / 2, 2.5 / 3, 0.5 / 3], rtol=1e-5)


def _loss(model, inputs, pad) -> float:
    likely = torch.from_numpy(predict_probabilities(model, inputs, pad)).clamp(1e-6, 1 - 1e-6)
    return float(torch.nn.functional.binary_cross_entropy(likely, inputs.labels))
