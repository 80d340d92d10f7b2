"""Scores that can be trusted: protocols, exact answers, audio controls, uncertainty."""

from importlib import import_module

HOME = {
    "Interval": "measures",
    "bootstrap_interval": "measures",
    "derangement": "controls",
    "exact_answer": "exact",
    "majority_answers": "exact",
    "score": "scoring",
}
__all__ = list(HOME)


def __getattr__(name: str):
    """Imports a public name when it is first used: the protocols load NLTK, the exact answers need nothing."""
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOME[name]}"), name)
