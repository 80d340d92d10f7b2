"""The subgenre classifier over lyrics, captions and a captioner's audio embedding: configuration, processor, model."""

from importlib import import_module

_HOMES = {
    "SubgenreConfig": "configuration_subgenre",
    "SubgenreProcessor": "processing_subgenre",
    "SubgenreForSequenceClassification": "modeling_subgenre",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
