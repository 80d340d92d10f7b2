"""Scores that can be trusted: protocols, exact answers, audio controls, uncertainty."""

from descant.evaluation.bootstrap import Interval, bootstrap_interval
from descant.evaluation.exact import exact_answer, majority_answers
from descant.evaluation.grounding import derangement

__all__ = ["Interval", "bootstrap_interval", "derangement", "exact_answer", "majority_answers"]
