"""A HuBERT-like music encoder (MERT) joined to a causal language model (SmolLM2) by a projector."""

from importlib import import_module

_HOMES = {
    "MertLMConfig": "configuration_mert_lm",
    "MertLMFeatureExtractor": "feature_extraction_mert_lm",
    "MertLMProcessor": "processing_mert_lm",
    "MertLMForConditionalGeneration": "modeling_mert_lm",
    "join_parts": "parts_mert_lm",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
