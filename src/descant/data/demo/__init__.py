"""The embedded demo corpus: real instrument sounds with known facts."""

from descant.data.demo.terms import answer_terms

__all__ = ["answer_terms"]
