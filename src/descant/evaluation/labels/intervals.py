"""How sure the scores of labels are: bootstrap by artist, since the tracks of one artist hang together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from descant.evaluation.bootstrap import Interval, draws, percentiles
from descant.evaluation.labels.predictions import GoldLabels, LabelPredictions
from descant.evaluation.labels.scores import SCORES, WeightedScore


@dataclass(frozen=True)
class Difference:
    """How much one system's score is above another's, with its 95 % interval."""

    score: str
    value: float
    interval: Interval


def score_intervals(
    gold: GoldLabels, runs: Sequence[LabelPredictions], seed: int = 0, n: int = 1000
) -> dict[str, tuple[float, Interval]]:
    """Each score's mean over the runs (seeds) of a system, with its 95 % interval."""
    return {name: _measured([_mean_over_runs(gold, runs, name)], gold, seed, n) for name in SCORES}


def paired_difference(
    gold: GoldLabels, first: Sequence[LabelPredictions], second: Sequence[LabelPredictions], score: str,
    seed: int = 0, n: int = 1000,
) -> Difference:  # fmt: skip
    """The first system's mean score less the second's, both over the same samples of artists.

    The interval is that of new artists: the systems' own variation over seeds is averaged, not resampled.
    """
    systems = [_mean_over_runs(gold, first, score), _mean_over_runs(gold, second, score)]
    return Difference(score, *_measured(systems, gold, seed, n))


def _mean_over_runs(gold: GoldLabels, runs: Sequence[LabelPredictions], score: str) -> WeightedScore:
    measures = [SCORES[score](gold, told) for told in runs]
    return lambda weights: np.mean([measure(weights) for measure in measures], axis=0)


def _measured(systems: Sequence[WeightedScore], gold: GoldLabels, seed: int, n: int) -> tuple[float, Interval]:
    """The first system's value less those of the others, and its interval."""

    def measure(weights: np.ndarray) -> np.ndarray:
        found = [system(weights) for system in systems]
        return found[0] - sum(found[1:], np.zeros_like(found[0]))

    places = {group: place for place, group in enumerate(dict.fromkeys(gold.groups))}
    of_track = np.array([places[group] for group in gold.groups])
    sampled = [measure(block[:, of_track].astype(float)) for block in draws(len(places), seed, n)]
    return float(measure(np.ones((1, len(of_track))))[0]), percentiles(np.concatenate(sampled))
