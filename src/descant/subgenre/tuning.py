"""Thresholds of labels, and weights of modalities, tuned on validation tracks for the macro-F1."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import PreTrainedModel

from descant.models.subgenre.configuration_subgenre import MODALITIES, join_modalities
from descant.models.subgenre.fusion_subgenre import SUBSETS
from descant.models.subgenre.modeling_subgenre import hierarchical_loss
from descant.subgenre.examples import ExampleInputs, decide_with, predict_probabilities
from descant.subgenre.label_scores import GoldLabels, subgenre_macro_f1

CANDIDATES = np.round(np.arange(0.05, 0.96, 0.05), 2)
SCALES = np.round(np.geomspace(0.1, 2.0, 25), 3)
# A label with fewer validation tracks has the threshold of its level: its own would be chance.
OWN_THRESHOLD_TRACKS = 10


def tune_thresholds(probabilities: np.ndarray, gold: GoldLabels) -> dict[str, float]:
    """Tune label → threshold. probabilities: (tracks, labels), genres first.

    All genres share one threshold, by which a track gets genres beside its likeliest one, and so do all subgenres,
    given their genre; a subgenre with ten validation tracks or more has its own.
    """
    tree, parents = gold.tree, _parents(gold)
    genre_truth = _all_genres(gold, parents)
    genres = len(tree.genres)
    thresholds = np.full(probabilities.shape[1], 0.5)
    thresholds[:genres] = _best([_f1(genre_truth, probabilities[:, :genres] >= one) for one in CANDIDATES])

    def with_level(one: float) -> np.ndarray:
        return np.concatenate([thresholds[:genres], np.full(len(parents), one)])

    thresholds = with_level(_best([_macro_f1(probabilities, gold, with_level(one)) for one in CANDIDATES]))
    for label in np.flatnonzero(gold.subgenres.sum(axis=0) >= OWN_THRESHOLD_TRACKS).tolist():
        genre = probabilities[:, parents[label]]
        truth, likely = gold.subgenres[:, label], probabilities[:, genres + label] / np.maximum(genre, 1e-30)
        thresholds[genres + label] = _best([_f1(truth, likely >= one) for one in CANDIDATES])
    return {label: float(one) for label, one in zip([*tree.genres, *tree.subgenres], thresholds, strict=True)}


def tune_scale(probabilities: np.ndarray, gold: GoldLabels, thresholds: np.ndarray) -> float:
    """Tune the factor of thresholds (labels,) for probabilities (tracks, labels) from fewer modalities.

    The threshold that makes F1 highest is half the F1 reached (Lipton et al., Thresholding Classifiers to Maximize F1,
    2014), so it depends on how much is known.
    """
    return _best([_macro_f1(probabilities, gold, one * thresholds) for one in SCALES], SCALES)


def _macro_f1(probabilities: np.ndarray, gold: GoldLabels, thresholds: np.ndarray) -> float:
    """Return the macro-F1 of the subgenres that these thresholds name."""
    predictions = decide_with(probabilities, torch.from_numpy(thresholds).float(), _parents(gold))
    return float(subgenre_macro_f1(gold, predictions)(np.ones((1, len(probabilities))))[0])


def _parents(gold: GoldLabels) -> list[int]:
    return [gold.tree.genres.index(gold.tree.parent(label)) for label in gold.tree.subgenres]


def _best(scores: list[float], candidates: np.ndarray = CANDIDATES) -> float:
    """Return the candidate in the middle of those with the highest score."""
    highest = np.flatnonzero(np.isclose(scores, max(scores)))
    return float(candidates[highest[len(highest) // 2]])


def _f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return F1 over all pairs of a track and a label."""
    return float(2 * (truth & predicted).sum() / max(truth.sum() + predicted.sum(), 1))


def _all_genres(gold: GoldLabels, parents: list[int]) -> np.ndarray:
    """Mark the genres of each track, those of its subgenres among them (tracks, genres)."""
    truth = np.eye(len(gold.tree.genres), dtype=bool)[gold.genre]
    for label, parent in enumerate(parents):
        truth[:, parent] |= gold.subgenres[:, label]
    return truth


# Regularises weights towards those of a mean, and shifts towards 0 (in nats): few validation tracks should not turn a
# modality off.
PENALTY = 0.1


def set_prior(model: PreTrainedModel, labels: torch.Tensor) -> None:
    """Set what a late fusion predicts without any modality: the frequencies of labels (tracks, labels)."""
    genres, subgenres = labels.split([len(model.config.genres), len(model.config.subgenres)], dim=1)
    known = genres[:, model.parents.cpu()].sum(dim=0)
    shares = torch.cat([(genres.sum(dim=0) + 0.5) / (len(labels) + 1), (subgenres.sum(dim=0) + 0.5) / (known + 1)])
    model.fusion.shifts[0] = shares.logit().to(model.fusion.shifts)


def fit_weights(model: PreTrainedModel, examples: ExampleInputs, pad_token_id: int) -> None:
    """Fit weights and shifts of a late fusion, in place, to the lowest loss on `examples`.

    Each subset of the modalities has its own, for genres and for subgenres: one weight a modality and one shift,
    learnt from the examples that have the whole subset (stacking, Wolpert 1992; for one modality alone it is Platt's
    scaling, 1999). Then genres are calibrated. A subset that no example has keeps the weights of a mean.
    """
    logits, there = read_logits(model, examples, pad_token_id)
    fusion, genres = model.fusion, len(model.config.genres)
    level = (torch.arange(model.config.num_labels) >= genres).long()  # 0 of a genre, 1 of a subgenre
    for subset in range(1, SUBSETS):
        seen = [bit for bit in range(len(MODALITIES)) if subset >> bit & 1]
        rows = there[:, seen].all(dim=1)
        if rows.any():
            loss_of = _build_loss(model, logits[seen][:, rows], examples.labels[rows], level)
            weights, shifts = _fit(loss_of, len(seen))
            of_genres = (weights[:, :1, None] * logits[seen][:, rows, :genres]).sum(dim=0) + shifts[0]
            scale, shift = calibrate_genres(of_genres, examples.labels[rows, :genres])
            weights[:, 0], shifts[0] = scale * weights[:, 0], scale * shifts[0] + shift
            fusion.weights[subset, seen] = weights[:, level].to(fusion.weights)
            fusion.shifts[subset] = shifts[level].to(fusion.shifts)


def read_logits(
    model: PreTrainedModel, examples: ExampleInputs, pad_token_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each modality's logits (modalities, examples, labels), and which there are (examples, modalities)."""
    logits: list[torch.Tensor] = []
    hook = model.fusion.register_forward_hook(lambda _, __, fused: logits.append(fused.parts.float().cpu()))
    predict_probabilities(model, examples, pad_token_id)
    hook.remove()
    return torch.cat(logits, dim=1), examples.there.bool()


def _build_loss(
    model: PreTrainedModel, logits: torch.Tensor, labels: torch.Tensor, level: torch.Tensor
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Build the loss of weights (modalities, levels) and shifts (levels,) on the logits of some tracks."""
    genres, parents = len(model.config.genres), model.parents.cpu()

    def loss_of(weights: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
        raw = (weights[:, None, level] * logits).sum(dim=0) + shifts[level]
        return hierarchical_loss(raw[:, :genres], raw[:, genres:], labels, parents).mean()

    return loss_of


def _fit(
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], modalities: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit the best weights, which are above 0, and shifts."""
    logs, shifts = torch.zeros(modalities, 2, requires_grad=True), torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.LBFGS([logs, shifts], max_iter=50, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(logs.exp() / modalities, shifts) + PENALTY * (logs.square().sum() + shifts.square().sum())
        loss.backward()
        return loss

    optimizer.step(step)
    return (logs.exp() / modalities).detach(), shifts.detach()


def calibrate_genres(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Fit the scale and shift of genre logits (tracks, genres) at which probabilities are shares that come true.

    The likeliest genre of a track counts as much as all of its genres together (labels, of 0 and 1): genres exclude
    each other, so what is best for each by itself leaves the likeliest one under-confident (Platt's scaling, 1999).
    """
    best = logits.argmax(dim=1, keepdim=True)
    log_scale, shift = torch.zeros((), requires_grad=True), torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_scale, shift], max_iter=50, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        losses = binary_cross_entropy_with_logits(log_scale.exp() * logits + shift, labels, reduction="none")
        loss = (losses.sum(dim=1) + losses.gather(1, best)[:, 0]).mean()
        loss = loss + PENALTY / 10 * (log_scale.square() + shift.square())
        loss.backward()
        return loss

    optimizer.step(step)
    return float(log_scale.detach().exp()), float(shift.detach())


FEWER = [subset for size in range(1, len(MODALITIES)) for subset in combinations(MODALITIES, size)]


def tune_on_validation(model: PreTrainedModel, examples: ExampleInputs, gold: GoldLabels, pad_token_id: int) -> None:
    """Tune a trained model's weights of modalities, thresholds, and scales of them, in place."""
    config = model.config
    if config.fusion == "late":
        fit_weights(model, examples, pad_token_id)
    config.thresholds, config.threshold_scales = {}, {}
    config.thresholds = tune_thresholds(predict_probabilities(model, examples, pad_token_id), gold)
    thresholds, there = np.array(config.list_thresholds()), examples.there.bool().numpy()
    for subset in FEWER:
        rows: np.ndarray = np.all(there[:, [MODALITIES.index(one) for one in subset]], axis=1)
        if rows.any():
            likely = predict_probabilities(model, examples, pad_token_id, modalities=subset)[rows]
            scale = tune_scale(likely, _some(gold, rows), thresholds)
            config.threshold_scales[join_modalities(subset)] = scale


def _some(gold: GoldLabels, rows: np.ndarray) -> GoldLabels:
    groups = tuple(group for group, kept in zip(gold.groups, rows, strict=True) if kept)
    return replace(gold, genre=gold.genre[rows], subgenres=gold.subgenres[rows], groups=groups)
