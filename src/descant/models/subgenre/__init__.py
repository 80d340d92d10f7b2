"""The subgenre classifier over lyrics, captions and a captioner's audio embedding: configuration, processor, model."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers, which do not run __getattr__
    from descant.models.subgenre.configuration_subgenre import SubgenreConfig as SubgenreConfig
    from descant.models.subgenre.modeling_subgenre import (
        SubgenreForSequenceClassification as SubgenreForSequenceClassification,
    )
    from descant.models.subgenre.processing_subgenre import SubgenreProcessor as SubgenreProcessor

_HOMES = {
    "SubgenreConfig": "configuration_subgenre",
    "SubgenreProcessor": "processing_subgenre",
    "SubgenreForSequenceClassification": "modeling_subgenre",
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
