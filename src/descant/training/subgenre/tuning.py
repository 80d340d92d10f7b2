"""What validation tracks decide after training: how much each modality counts, and from when on a label is named."""

from dataclasses import replace
from itertools import combinations

import numpy as np
from transformers import PreTrainedModel

from descant.evaluation.labels import GoldLabels
from descant.models.subgenre.configuration_subgenre import MODALITIES, join_modalities
from descant.training.subgenre.examples import ExampleInputs
from descant.training.subgenre.fusion_weights import fit_weights
from descant.training.subgenre.prediction import predict_probabilities
from descant.training.subgenre.thresholds import tune_scale, tune_thresholds

FEWER = [subset for size in range(1, len(MODALITIES)) for subset in combinations(MODALITIES, size)]


def tune_on_validation(model: PreTrainedModel, examples: ExampleInputs, gold: GoldLabels, pad_token_id: int) -> None:
    """Sets a trained model's weights of modalities, thresholds, and scales of them, in place."""
    config = model.config
    if config.fusion == "late":
        fit_weights(model, examples, pad_token_id)
    config.thresholds, config.threshold_scales = {}, {}
    config.thresholds = tune_thresholds(predict_probabilities(model, examples, pad_token_id), gold)
    thresholds, there = np.array(config.list_thresholds()), examples.there.bool().numpy()
    for subset in FEWER:
        rows = there[:, [MODALITIES.index(one) for one in subset]].all(axis=1)
        if rows.any():
            likely = predict_probabilities(model, examples, pad_token_id, modalities=subset)[rows]
            scale = tune_scale(likely, _some(gold, rows), thresholds)
            config.threshold_scales[join_modalities(subset)] = scale


def _some(gold: GoldLabels, rows: np.ndarray) -> GoldLabels:
    groups = tuple(group for group, kept in zip(gold.groups, rows, strict=True) if kept)
    return replace(gold, genre=gold.genre[rows], subgenres=gold.subgenres[rows], groups=groups)
