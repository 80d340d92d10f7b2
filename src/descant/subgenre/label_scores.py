"""Scores of genres and subgenres, each as a function of how much every track weighs.

With all weights 1 it is the score itself; with a bootstrap sample's weights it is the score of that sample.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from descant.evaluation.measures import Difference, Interval, draws, percentiles, table_lines
from descant.subgenre.labels import LabelTree, Track


@dataclass(frozen=True)
class GoldLabels:
    """The true labels of tracks.

    genre: (tracks,), indices of the tree's genres. subgenres: (tracks, subgenres), true or false.
    groups: (tracks,), the artist, or the track itself where the artist is unknown; resampled together.
    """

    tree: LabelTree
    genre: np.ndarray
    subgenres: np.ndarray
    groups: tuple[str, ...]


@dataclass(frozen=True)
class LabelPredictions:
    """A system's probabilities and decisions.

    genres: (tracks, genres); the decided genre is the most probable one. subgenres: (tracks, subgenres).
    chosen: (tracks, subgenres), the decided subgenres.
    """

    genres: np.ndarray
    subgenres: np.ndarray
    chosen: np.ndarray


def gather_gold(tracks: Sequence[Track], tree: LabelTree) -> GoldLabels:
    """Gather the true labels of tracks; raises ValueError for one that is not in the tree."""
    genres = {name: index for index, name in enumerate(tree.genres)}
    unknown = [(track.track_id, track.genre) for track in tracks if track.genre not in genres]
    if unknown:
        raise ValueError(f"track {unknown[0][0]}: genre {unknown[0][1]!r} is not in the label tree")
    groups = tuple(f"artist {track.artist}" if track.artist else f"track {track.track_id}" for track in tracks)
    subgenres = mark_labels([track.subgenres for track in tracks], tree)
    return GoldLabels(tree, np.array([genres[track.genre] for track in tracks], dtype=int), subgenres, groups)


def mark_labels(labels: Sequence[Collection[str]], tree: LabelTree) -> np.ndarray:
    """Mark sets of full names as (sets, subgenres), true where a set has the label; raises ValueError as above."""
    columns = {name: column for column, name in enumerate(tree.subgenres)}
    marked = np.zeros((len(labels), len(columns)), dtype=bool)
    for row, names in enumerate(labels):
        for name in names:
            if name not in columns:
                raise ValueError(f"subgenre {name!r} is not in the label tree")
            marked[row, columns[name]] = True
    return marked


def one_hot_predictions(
    genres: Sequence[str | None], subgenres: Sequence[Collection[str]], tree: LabelTree
) -> LabelPredictions:
    """Turn decisions into probabilities: 1 for what is decided; no genre (None) is a guess without any confidence."""
    columns = {name: column for column, name in enumerate(tree.genres)}
    probabilities = np.zeros((len(genres), len(columns)))
    for row, genre in enumerate(genres):
        if genre is not None:
            probabilities[row, columns[genre]] = 1.0
    chosen = mark_labels(subgenres, tree)
    return LabelPredictions(probabilities, chosen.astype(float), chosen)


WeightedScore = Callable[[np.ndarray], np.ndarray]  # weights (samples, tracks) → scores (samples,)


def genre_accuracy(gold: GoldLabels, predictions: LabelPredictions) -> WeightedScore:
    """Score the share of tracks whose genre is right."""
    return _mean(decided_genres(predictions)[np.arange(len(gold.genre)), gold.genre])


def genre_macro_f1(gold: GoldLabels, predictions: LabelPredictions) -> WeightedScore:
    """Score the mean over genres of the F1 of each."""
    return _macro_f1(np.eye(len(gold.tree.genres), dtype=bool)[gold.genre], decided_genres(predictions))


def subgenre_micro_f1(gold: GoldLabels, predictions: LabelPredictions) -> WeightedScore:
    """Score the F1 over all pairs of a track and a subgenre."""
    return _overlap_f1(gold.subgenres, predictions.chosen)


def subgenre_macro_f1(gold: GoldLabels, predictions: LabelPredictions) -> WeightedScore:
    """Score the mean over subgenres of the F1 of each."""
    return _macro_f1(gold.subgenres, predictions.chosen)


def hierarchical_f1(gold: GoldLabels, predictions: LabelPredictions) -> WeightedScore:
    """Score the overlap of label sets that hold each label's ancestors too (Kiritchenko et al., 2005)."""
    true_genres = np.eye(len(gold.tree.genres), dtype=bool)[gold.genre]
    return _overlap_f1(_with_ancestors(gold, true_genres, gold.subgenres),
                       _with_ancestors(gold, decided_genres(predictions), predictions.chosen))  # fmt: skip


def hamming_loss(gold: GoldLabels, predictions: LabelPredictions) -> WeightedScore:
    """Score the share of wrong decisions among all subgenres of all tracks; the lower, the better."""
    return _mean((gold.subgenres != predictions.chosen).sum(axis=1) / max(gold.subgenres.shape[1], 1))


def subset_accuracy(gold: GoldLabels, predictions: LabelPredictions) -> WeightedScore:
    """Score the share of tracks of which all subgenres are right."""
    return _mean((gold.subgenres == predictions.chosen).all(axis=1))


def subgenre_map(gold: GoldLabels, predictions: LabelPredictions) -> WeightedScore:
    """Score the mean over subgenres of the average precision of tracks in the order of their probability.

    Tracks of one probability come in together, as in scikit-learn's average_precision_score. 0 where no track has any.
    """
    occurring = np.flatnonzero(gold.subgenres.any(axis=0))
    parts = [_average_precision(gold.subgenres[:, label], predictions.subgenres[:, label]) for label in occurring]
    return lambda weights: _mean_of_defined(np.array([part(weights) for part in parts]).reshape(-1, len(weights)).T)


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


def score_labels(gold: GoldLabels, predictions: LabelPredictions) -> dict[str, float]:
    """Compute all scores of a system; raises ValueError where it lacks predictions for some of the tracks."""
    if not len(gold.genre):
        raise ValueError("no tracks to score")
    parts = {"genres": predictions.genres, "subgenres": predictions.subgenres, "chosen": predictions.chosen}
    for name, part in parts.items():
        if len(part) != len(gold.genre):
            raise ValueError(f"{name}: {len(part)} predictions for {len(gold.genre)} tracks")
    weights = np.ones((1, len(gold.genre)))
    return {name: float(score(gold, predictions)(weights)[0]) for name, score in SCORES.items()}


def decided_genres(predictions: LabelPredictions) -> np.ndarray:
    """Mark the decided genre of each track, (tracks, genres); none where none has any probability."""
    best = predictions.genres.argmax(axis=1)
    return np.eye(predictions.genres.shape[1], dtype=bool)[best] & (predictions.genres.max(axis=1) > 0)[:, None]


def _with_ancestors(gold: GoldLabels, genres: np.ndarray, subgenres: np.ndarray) -> np.ndarray:
    """Mark genres and subgenres of each track in one row, with the genre of every subgenre."""
    parents = np.array([gold.tree.genres.index(gold.tree.parent(name)) for name in gold.tree.subgenres], dtype=int)
    genres = genres.copy()
    rows, labels = np.nonzero(subgenres)
    genres[rows, parents[labels]] = True
    return np.concatenate([genres, subgenres], axis=1)


def _mean(values: np.ndarray) -> WeightedScore:
    return lambda weights: weights @ values.astype(float) / weights.sum(axis=1)


def _overlap_f1(gold: np.ndarray, predictions: np.ndarray) -> WeightedScore:
    """Score F1 over all pairs of a track and a label; 0 where nothing is right."""
    both, sizes = (gold & predictions).sum(axis=1), gold.sum(axis=1) + predictions.sum(axis=1)
    return lambda weights: _divide(2 * weights @ both, weights @ sizes, otherwise=0.0)


def _macro_f1(gold: np.ndarray, predictions: np.ndarray) -> WeightedScore:
    """Score the mean F1 of the labels that occur in the truth; those absent from a sample are left out of it."""
    occurring = gold.any(axis=0)
    gold, predictions = gold[:, occurring].astype(float), predictions[:, occurring].astype(float)

    def measure(weights: np.ndarray) -> np.ndarray:
        f1 = _divide(2 * weights @ (gold * predictions), weights @ (gold + predictions), otherwise=np.nan)
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
    """Average over the second axis without NaN; 0 where all are NaN."""
    defined = ~np.isnan(values)
    return _divide(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1).astype(float), otherwise=0.0)


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions between two probabilities: how many, their mean probability, the share that came true."""

    low: float
    high: float
    count: int
    probability: float
    share_true: float


def reliability_table(probabilities: np.ndarray, outcomes: np.ndarray, bins: int = 10) -> list[ReliabilityBin]:
    """Count predictions in bins of equal width, empty ones left out.

    Args:
        probabilities: any shape, each between 0 and 1.
        outcomes: of the same shape, true or false.

    Raises:
        ValueError: other shapes, nothing at all, or a probability below 0 or above 1.
    """
    probabilities, outcomes = np.ravel(probabilities), np.ravel(outcomes).astype(float)
    if probabilities.shape != outcomes.shape or not len(probabilities):
        raise ValueError(f"{len(probabilities)} probabilities for {len(outcomes)} outcomes: give one each, and some")
    if not (probabilities >= 0).all() or not (probabilities <= 1).all():
        raise ValueError("probabilities lie between 0 and 1")
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.clip(np.digitize(probabilities, edges[1:-1], right=True), 0, bins - 1)
    return [
        ReliabilityBin(float(edges[number]), float(edges[number + 1]), int(inside.sum()),
                       float(probabilities[inside].mean()), float(outcomes[inside].mean()))
        for number in range(bins) if (inside := bin_of == number).any()
    ]  # fmt: skip


def score_intervals(
    gold: GoldLabels, runs: Sequence[LabelPredictions], seed: int = 0, n: int = 1000
) -> dict[str, tuple[float, Interval]]:
    """Compute each score's mean over the runs (seeds) of a system, with its 95 % interval."""
    return {name: _measured([_mean_over_runs(gold, runs, name)], gold, seed, n) for name in SCORES}


def paired_difference(
    gold: GoldLabels, runs: Sequence[LabelPredictions], others: Sequence[LabelPredictions], score: str,
    seed: int = 0, n: int = 1000,
) -> Difference:  # fmt: skip
    """Return how far a system's mean score (`second`) is above another's, over the same samples of artists.

    The interval is that of new artists: the systems' own variation over seeds is averaged, not resampled.
    """
    system, other = (_mean_over_runs(gold, one, score) for one in (runs, others))
    below, above = (_measured([one], gold, seed, n=1)[0] for one in (other, system))
    return Difference(score, below, above, _measured([system, other], gold, seed, n)[1])


def _mean_over_runs(gold: GoldLabels, runs: Sequence[LabelPredictions], score: str) -> WeightedScore:
    measures = [SCORES[score](gold, predictions) for predictions in runs]
    return lambda weights: np.mean([measure(weights) for measure in measures], axis=0)


def _measured(systems: Sequence[WeightedScore], gold: GoldLabels, seed: int, n: int) -> tuple[float, Interval]:
    """Subtract the other systems' values from the first's; return it with its interval."""

    def measure(weights: np.ndarray) -> np.ndarray:
        values = [system(weights) for system in systems]
        return values[0] - sum(values[1:], np.zeros_like(values[0]))

    numbers = {group: number for number, group in enumerate(dict.fromkeys(gold.groups))}
    of_track = np.array([numbers[group] for group in gold.groups])
    sampled = [measure(block[:, of_track].astype(float)) for block in draws(len(numbers), seed, n)]
    return float(measure(np.ones((1, len(of_track))))[0]), percentiles(np.concatenate(sampled))


def render_measured(systems: Mapping[str, Mapping[str, tuple[float, Interval]]]) -> str:
    """Render a row a system, a column a score, each with its 95 % interval by artist (see `score_intervals`)."""
    rows = []
    for name, measured in systems.items():
        rows.append([name, *(f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, (low, high) in measured.values())])
    return "\n".join(table_lines(["system", *(name.replace("_", " ") for name in SCORES)], rows))


def render_differences(differences: Mapping[str, Difference]) -> str:
    """Render a row a comparison: its score, the difference and the 95 % interval."""
    rows = [
        [name, one.name.replace("_", " "), f"{one.gap:+.3f}", f"[{one.interval.low:+.3f}, {one.interval.high:+.3f}]"]
        for name, one in differences.items()
    ]  # fmt: skip
    return "\n".join(table_lines(["comparison", "score", "difference", "95 % interval"], rows))
