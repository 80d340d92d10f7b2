"""From which probability on a label is named: tuned on validation tracks for the macro-F1."""

import numpy as np
import torch

from descant.evaluation.labels import GoldLabels
from descant.evaluation.labels.scores import subgenre_macro_f1
from descant.training.subgenre.prediction import decide_with

CANDIDATES = np.round(np.arange(0.05, 0.96, 0.05), 2)
# A label with fewer validation tracks has the threshold of its level: its own would be chance.
OWN_THRESHOLD_TRACKS = 10


def tune_thresholds(probabilities: np.ndarray, gold: GoldLabels) -> dict[str, float]:
    """Label → threshold. probabilities: (tracks, labels), genres first.

    All genres share one threshold, by which a track gets genres beside its likeliest one, and so do all subgenres,
    given their genre; a subgenre with ten validation tracks or more has its own.
    """
    tree = gold.tree
    parents = [tree.genres.index(tree.parent(label)) for label in tree.subgenres]
    genre_truth = _all_genres(gold, parents)
    genres = len(tree.genres)
    thresholds = np.full(probabilities.shape[1], 0.5)
    thresholds[:genres] = _best([_f1(genre_truth, probabilities[:, :genres] >= one) for one in CANDIDATES])

    def macro_f1(tried: np.ndarray) -> float:
        told = decide_with(probabilities, torch.from_numpy(tried).float(), parents)
        return float(subgenre_macro_f1(gold, told)(np.ones((1, len(probabilities))))[0])

    def with_level(one: float) -> np.ndarray:
        return np.concatenate([thresholds[:genres], np.full(len(parents), one)])

    thresholds = with_level(_best([macro_f1(with_level(one)) for one in CANDIDATES]))
    for place in np.flatnonzero(gold.subgenres.sum(axis=0) >= OWN_THRESHOLD_TRACKS):
        genre = probabilities[:, parents[place]]
        truth, likely = gold.subgenres[:, place], probabilities[:, genres + place] / np.maximum(genre, 1e-30)
        thresholds[genres + place] = _best([_f1(truth, likely >= one) for one in CANDIDATES])
    return {label: float(one) for label, one in zip([*tree.genres, *tree.subgenres], thresholds, strict=True)}


def _best(scores: list[float]) -> float:
    """The candidate in the middle of those with the highest score."""
    highest = np.flatnonzero(np.isclose(scores, max(scores)))
    return float(CANDIDATES[highest[len(highest) // 2]])


def _f1(truth: np.ndarray, told: np.ndarray) -> float:
    """F1 over all pairs of a track and a label."""
    return float(2 * (truth & told).sum() / max(truth.sum() + told.sum(), 1))


def _all_genres(gold: GoldLabels, parents: list[int]) -> np.ndarray:
    """The genres of each track, those of its subgenres among them (tracks, genres)."""
    truth = np.eye(len(gold.tree.genres), dtype=bool)[gold.genre]
    for place, parent in enumerate(parents):
        truth[:, parent] |= gold.subgenres[:, place]
    return truth
