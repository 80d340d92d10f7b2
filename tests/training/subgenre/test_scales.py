"""How much each modality counts, fitted on validation tracks."""

import numpy as np
import torch
from tiny_classifier import build_classifier, make_examples

from descant.training.subgenre.examples import ExampleInputs
from descant.training.subgenre.prediction import predict_probabilities
from descant.training.subgenre.scales import expert_logits, fit_scales


def test_the_words_of_the_modalities_and_the_bias_make_the_logits():
    model, processor = build_classifier("late")
    inputs, pad = ExampleInputs(make_examples(), processor), processor.tokenizer.pad_token_id
    genres = (model.fusion.bias + expert_logits(model, inputs, pad).sum(dim=0))[:, :2].sigmoid()
    found = predict_probabilities(model, inputs, pad)[:, :2]
    np.testing.assert_allclose(found, genres.detach().numpy(), atol=1e-6)


def test_a_modality_that_says_the_wrong_thing_comes_to_count_less_than_one_that_is_right():
    model, processor = build_classifier("late")
    examples = [one.keep(("captions", "audio")) for one in make_examples() if one.audio_embeds is not None]
    inputs, pad = ExampleInputs(examples, processor), processor.tokenizer.pad_token_id
    truth = torch.tensor(np.stack([one.labels for one in examples]))
    with torch.no_grad():  # the audio tells the labels, the captions their opposite
        for expert, sign in zip(model.fusion.experts, (0.0, -1.0, 1.0), strict=True):
            summaries = torch.eye(8)[: len(examples)] * 4
            expert.norm = torch.nn.Identity()
            expert.output.weight.zero_()
            expert.output.weight[:, : len(examples)] = sign * (2 * truth.T - 1)
        model.encode_windows = lambda ids, mask, kind: summaries[: len(ids)]
        model.audio_projection.forward = lambda embeds: summaries[: len(embeds)]
    before = _loss(model, inputs, pad, truth)
    fit_scales(model, inputs, pad)
    _, captions, audio = model.fusion.scales.tolist()
    assert captions < 0.5 < audio
    assert _loss(model, inputs, pad, truth) < before


def _loss(model, inputs, pad, truth) -> float:
    likely = torch.from_numpy(predict_probabilities(model, inputs, pad)).clamp(1e-6, 1 - 1e-6)
    return float(torch.nn.functional.binary_cross_entropy(likely, truth))
