"""Scores that can be trusted: protocols, exact answers, audio controls, uncertainty."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers, which do not run __getattr__
    from descant.evaluation.controls import derangement as derangement
    from descant.evaluation.exact import exact_answer as exact_answer
    from descant.evaluation.exact import majority_answers as majority_answers
    from descant.evaluation.measures import Interval as Interval
    from descant.evaluation.measures import bootstrap_interval as bootstrap_interval
    from descant.evaluation.scoring import score as score

_HOMES = {
    "Interval": "measures",
    "bootstrap_interval": "measures",
    "derangement": "controls",
    "exact_answer": "exact",
    "majority_answers": "exact",
    "score": "scoring",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: the protocols load NLTK, the exact answers need nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted(__all__)
