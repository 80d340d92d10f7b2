"""Scores of genres and subgenres, each as a function of how much every track weighs.

With all weights 1 it is the score itself; with a bootstrap sample's weights it is the score of that sample.
"""

from collections.abc import Callable

import numpy as np

from descant.evaluation.labels.predictions import GoldLabels, LabelPredictions

WeightedScore = Callable[[np.ndarray], np.ndarray]  # weights (samples, tracks) → scores (samples,)


def genre_accuracy(gold: GoldLabels, told: LabelPredictions) -> WeightedScore:
    return _mean(decided_genres(told)[np.arange(len(gold.genre)), gold.genre])


def genre_macro_f1(gold: GoldLabels, told: LabelPredictions) -> WeightedScore:
    return _macro_f1(np.eye(len(gold.tree.genres), dtype=bool)[gold.genre], decided_genres(told))


def subgenre_micro_f1(gold: GoldLabels, told: LabelPredictions) -> WeightedScore:
    return _overlap_f1(gold.subgenres, told.chosen)


def subgenre_macro_f1(gold: GoldLabels, told: LabelPredictions) -> WeightedScore:
    return _macro_f1(gold.subgenres, told.chosen)


def hierarchical_f1(gold: GoldLabels, told: LabelPredictions) -> WeightedScore:
    """Overlap of label sets that hold each label's ancestors too (Kiritchenko et al., 2005)."""
    true_genres = np.eye(len(gold.tree.genres), dtype=bool)[gold.genre]
    return _overlap_f1(_with_ancestors(gold, true_genres, gold.subgenres),
                       _with_ancestors(gold, decided_genres(told), told.chosen))  # fmt: skip


def hamming_loss(gold: GoldLabels, told: LabelPredictions) -> WeightedScore:
    """The share of wrong decisions among all subgenres of all tracks; the lower, the better."""
    return _mean((gold.subgenres != told.chosen).mean(axis=1))


def subset_accuracy(gold: GoldLabels, told: LabelPredictions) -> WeightedScore:
    """The share of tracks of which all subgenres are right."""
    return _mean((gold.subgenres == told.chosen).all(axis=1))


def subgenre_map(gold: GoldLabels, told: LabelPredictions) -> WeightedScore:
    """The mean over subgenres of the average precision of tracks in the order of their probability.

    Tracks of one probability come in together, as in scikit-learn's average_precision_score.
    """
    occurring = np.flatnonzero(gold.subgenres.any(axis=0))
    parts = [_average_precision(gold.subgenres[:, label], told.subgenres[:, label]) for label in occurring]
    return lambda weights: _mean_of_defined(np.stack([part(weights) for part in parts], axis=1))


SCORES: dict[str, Callable[[GoldLabels, LabelPredictions], WeightedScore]] = {
    "genre_accuracy": genre_accuracy,
    "genre_macro_f1": genre_macro_f1,
    "subgenre_micro_f1": subgenre_micro_f1,
    "subgenre_macro_f1": subgenre_macro_f1,
    "subgenre_map": subgenre_map,
    "hierarchical_f1": hierarchical_f1,
    "hamming_loss": hamming_loss,
    "subset_accuracy": subset_accuracy,
}


def score_labels(gold: GoldLabels, told: LabelPredictions) -> dict[str, float]:
    """All scores of a system; raises ValueError where it says nothing about some of the tracks."""
    if not len(gold.genre):
        raise ValueError("no tracks to score")
    for name, found in (("genres", told.genres), ("subgenres", told.subgenres), ("chosen", told.chosen)):
        if len(found) != len(gold.genre):
            raise ValueError(f"{name}: {len(found)} predictions for {len(gold.genre)} tracks")
    weights = np.ones((1, len(gold.genre)))
    return {name: float(score(gold, told)(weights)[0]) for name, score in SCORES.items()}


def decided_genres(told: LabelPredictions) -> np.ndarray:
    """The decided genre of each track, (tracks, genres), true or false; none where none has any probability."""
    best = told.genres.argmax(axis=1)
    return np.eye(told.genres.shape[1], dtype=bool)[best] & (told.genres.max(axis=1) > 0)[:, None]


def _with_ancestors(gold: GoldLabels, genres: np.ndarray, subgenres: np.ndarray) -> np.ndarray:
    """Genres and subgenres of each track in one row, with the genre of every subgenre."""
    parents = np.array([gold.tree.genres.index(gold.tree.parent(name)) for name in gold.tree.subgenres], dtype=int)
    genres = genres.copy()
    rows, labels = np.nonzero(subgenres)
    genres[rows, parents[labels]] = True
    return np.concatenate([genres, subgenres], axis=1)


def _mean(values: np.ndarray) -> WeightedScore:
    return lambda weights: weights @ values.astype(float) / weights.sum(axis=1)


def _overlap_f1(gold: np.ndarray, told: np.ndarray) -> WeightedScore:
    """F1 over all pairs of a track and a label; 0 where nothing is right."""
    both, sizes = (gold & told).sum(axis=1), gold.sum(axis=1) + told.sum(axis=1)
    return lambda weights: _divide(2 * weights @ both, weights @ sizes, otherwise=0.0)


def _macro_f1(gold: np.ndarray, told: np.ndarray) -> WeightedScore:
    """The mean of the F1 of the labels that occur in the truth; those absent from a sample are left out of it."""
    occurring = gold.any(axis=0)
    gold, told = gold[:, occurring].astype(float), told[:, occurring].astype(float)

    def measure(weights: np.ndarray) -> np.ndarray:
        f1 = _divide(2 * weights @ (gold * told), weights @ (gold + told), otherwise=np.nan)
        return _mean_of_defined(np.where(weights @ gold > 0, f1, np.nan))

    return measure


def _average_precision(gold: np.ndarray, scores: np.ndarray) -> WeightedScore:
    order = np.argsort(-scores, kind="stable")
    ordered = -scores[order]
    last = np.searchsorted(ordered, ordered, side="right") - 1  # where the tracks of the same probability end
    hits = gold[order].astype(float)

    def measure(weights: np.ndarray) -> np.ndarray:
        weights = weights[:, order]
        right = weights * hits
        precision = _divide(right.cumsum(axis=1)[:, last], weights.cumsum(axis=1)[:, last], otherwise=0.0)
        return _divide((right * precision).sum(axis=1), right.sum(axis=1), otherwise=np.nan)

    return measure


def _divide(part: np.ndarray, whole: np.ndarray, otherwise: float) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(whole), otherwise), where=whole > 0)


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """The mean over the second axis without NaN; 0 where all are NaN."""
    defined = ~np.isnan(values)
    return _divide(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1).astype(float), otherwise=0.0)
