"""How much each modality counts, fitted on validation tracks."""

import numpy as np
import pytest
import torch
from tiny_classifier import TREE, build_classifier, make_examples
from transformers.modeling_outputs import BaseModelOutput

from descant.subgenre.examples import ExampleInputs, predict_probabilities
from descant.subgenre.label_scores import GoldLabels
from descant.subgenre.labels import LabelTree
from descant.subgenre.tuning import (
    FEWER,
    calibrate_genres,
    fit_weights,
    read_logits,
    set_prior,
    tune_on_validation,
    tune_scale,
    tune_thresholds,
)

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
        model.encode_windows = lambda ids, mask, kind: (summaries[: len(ids)], BaseModelOutput())
        model.audio_projection.forward = lambda embeds: summaries[: len(embeds)]
    return model, inputs, processor.tokenizer.pad_token_id


def test_words_and_weights_make_the_logits_of_what_is_there():
    model, processor = build_classifier("late")
    inputs, pad = ExampleInputs(make_examples(), processor), processor.tokenizer.pad_token_id
    words, there = read_logits(model, inputs, pad)
    assert there.tolist() == [[True] * 3, [False, True, True], [True, False, False], [False] * 3]
    mean = (words * there.T[:, :, None]).sum(dim=0) / there.sum(dim=1).clamp(min=1)[:, None]
    expected = mean[:, :2].sigmoid()
    np.testing.assert_allclose(predict_probabilities(model, inputs, pad)[:, :2], expected.numpy(), atol=1e-6)


def test_a_modality_that_says_the_wrong_thing_comes_to_count_less_than_one_that_is_right(contrary):
    model, inputs, pad = contrary
    before = _loss(model, inputs, pad)
    fit_weights(model, inputs, pad)
    of_genre = model.fusion.weights[:, :, 0]
    assert of_genre[CAPTIONS | AUDIO, 1] < 0.7 * of_genre[CAPTIONS | AUDIO, 2]
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


def test_the_likeliest_genre_is_as_probable_as_it_is_often_right():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(6, (400,), generator=generator)
    labels = torch.nn.functional.one_hot(truth, 6).float()
    logits = -1 + 0.5 * (2 * labels + torch.randn(400, 6, generator=generator))  # too timid
    right = (logits.argmax(dim=1) == truth).float().mean()
    scale, shift = calibrate_genres(logits, labels)
    before, after = (one.sigmoid().max(dim=1).values.mean() for one in (logits, scale * logits + shift))
    assert before < after < right and right - after < 0.6 * (right - before)


def _loss(model, inputs, pad) -> float:
    likely = torch.from_numpy(predict_probabilities(model, inputs, pad)).clamp(1e-6, 1 - 1e-6)
    return float(torch.nn.functional.binary_cross_entropy(likely, inputs.labels))


THRESHOLDS_TREE = LabelTree({"jazz": ("swing",), "pop": ("disco",)})


def make_gold(genre: list[int]) -> GoldLabels:
    subgenres = np.eye(2, dtype=bool)[genre]
    return GoldLabels(THRESHOLDS_TREE, np.array(genre), subgenres, tuple(map(str, range(len(genre)))))


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
