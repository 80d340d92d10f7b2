"""Whether a probability of 0.7 comes true seven times in ten (Guo et al., On Calibration of Neural Networks, 2017)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions between two probabilities: how many, their mean probability, the share that came true."""

    low: float
    high: float
    count: int
    probability: float
    share_true: float


def reliability_table(probabilities: np.ndarray, outcomes: np.ndarray, bins: int = 10) -> list[ReliabilityBin]:
    """Predictions in bins of equal width, empty ones left out.

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
    place = np.clip(np.digitize(probabilities, edges[1:-1], right=True), 0, bins - 1)
    return [
        ReliabilityBin(float(edges[number]), float(edges[number + 1]), int(inside.sum()),
                       float(probabilities[inside].mean()), float(outcomes[inside].mean()))
        for number in range(bins) if (inside := place == number).any()
    ]  # fmt: skip


def expected_calibration_error(probabilities: np.ndarray, outcomes: np.ndarray, bins: int = 10) -> float:
    """The mean distance between probability and share that came true, over bins weighed by their predictions."""
    table = reliability_table(probabilities, outcomes, bins)
    total = sum(row.count for row in table)
    return sum(row.count * abs(row.probability - row.share_true) for row in table) / total
