"""A HuBERT-like music encoder (MERT) joined to a causal language model (SmolLM2) by a projector."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers, which do not run __getattr__
    from descant.models.mert_lm.configuration_mert_lm import MertLMConfig as MertLMConfig
    from descant.models.mert_lm.feature_extraction_mert_lm import MertLMFeatureExtractor as MertLMFeatureExtractor
    from descant.models.mert_lm.modeling_mert_lm import (
        MertLMForConditionalGeneration as MertLMForConditionalGeneration,
    )
    from descant.models.mert_lm.parts_mert_lm import join_parts as join_parts
    from descant.models.mert_lm.processing_mert_lm import MertLMProcessor as MertLMProcessor

_HOMES = {
    "MertLMConfig": "configuration_mert_lm",
    "MertLMFeatureExtractor": "feature_extraction_mert_lm",
    "MertLMProcessor": "processing_mert_lm",
    "MertLMForConditionalGeneration": "modeling_mert_lm",
    "join_parts": "parts_mert_lm",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted(__all__)
