"""How well systems label tracks: scores, intervals by artist, calibration, and plain systems to compare with."""

from descant.evaluation.labels.intervals import paired_difference, score_intervals
from descant.evaluation.labels.name_matching import ask_for_genre, match_labels
from descant.evaluation.labels.predictions import GoldLabels, LabelPredictions, gather_gold, one_hot_predictions
from descant.evaluation.labels.scores import SCORES, score_labels
from descant.evaluation.labels.table import render_differences, render_labels_table, render_measured
from descant.evaluation.labels.tfidf_probe import TfidfProbe

__all__ = [
    "SCORES", "GoldLabels", "LabelPredictions", "TfidfProbe", "ask_for_genre", "gather_gold", "match_labels",
    "one_hot_predictions", "paired_difference", "render_differences", "render_labels_table",
    "render_measured", "score_intervals", "score_labels",
]  # fmt: skip
