"""From which probability on a label is named: tuned on validation tracks for the macro-F1."""

import numpy as np
import torch

from descant.evaluation.labels import GoldLabels
from descant.evaluation.labels.scores import subgenre_macro_f1
from descant.training.subgenre.prediction import decide_with

CANDIDATES = np.round(np.arange(0.05, 0.96, 0.05), 2)
SCALES = np.round(np.geomspace(0.1, 2.0, 25), 3)
# A label with fewer validation tracks has the threshold of its level: its own would be chance.
OWN_THRESHOLD_TRACKS = 10


def tune_thresholds(probabilities: np.ndarray, gold: GoldLabels) -> dict[str, float]:
    """Label → threshold. probabilities: (tracks, labels), genres first.

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
    for place in np.flatnonzero(gold.subgenres.sum(axis=0) >= OWN_THRESHOLD_TRACKS):
        genre = probabilities[:, parents[place]]
        truth, likely = gold.subgenres[:, place], probabilities[:, genres + place] / np.maximum(genre, 1e-30)
        thresholds[genres + place] = _best([_f1(truth, likely >= one) for one in CANDIDATES])
    return {label: float(one) for label, one in zip([*tree.genres, *tree.subgenres], thresholds, strict=True)}


def tune_scale(probabilities: np.ndarray, gold: GoldLabels, thresholds: np.ndarray) -> float:
    """By what thresholds (labels,) are to be multiplied for probabilities (tracks, labels) that rest on less.

    The threshold that makes F1 highest is half the F1 reached (Lipton et al., Thresholding Classifiers to Maximize F1,
    2014), so it depends on how much is known.
    """
    return _best([_macro_f1(probabilities, gold, one * thresholds) for one in SCALES], SCALES)


def _macro_f1(probabilities: np.ndarray, gold: GoldLabels, thresholds: np.ndarray) -> float:
    """Of the subgenres that these thresholds name."""
    told = decide_with(probabilities, torch.from_numpy(thresholds).float(), _parents(gold))
    return float(subgenre_macro_f1(gold, told)(np.ones((1, len(probabilities))))[0])


def _parents(gold: GoldLabels) -> list[int]:
    return [gold.tree.genres.index(gold.tree.parent(label)) for label in gold.tree.subgenres]


def _best(scores: list[float], candidates: np.ndarray = CANDIDATES) -> float:
    """The candidate in the middle of those with the highest score."""
    highest = np.flatnonzero(np.isclose(scores, max(scores)))
    return float(candidates[highest[len(highest) // 2]])


def _f1(truth: np.ndarray, told: np.ndarray) -> float:
    """F1 over all pairs of a track and a label."""
    return float(2 * (truth & told).sum() / max(truth.sum() + told.sum(), 1))


def _all_genres(gold: GoldLabels, parents: list[int]) -> np.ndarray:
    """The genres of each track, those of its subgenres among them (tracks, genres)."""
    truth = np.eye(len(gold.tree.genres), dtype=bool)[gold.genre]
    for place, parent in enumerate(parents):
        truth[:, parent] |= gold.subgenres[:, place]
    return truth
