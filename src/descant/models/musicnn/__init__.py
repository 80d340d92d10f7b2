"""musicnn: two small convolutional networks that tag real music, as an audio encoder (arXiv 1909.06654)."""

from importlib import import_module
from pathlib import Path

# The folder with the weights of both published networks, which the package ships.
PRETRAINED = Path(__file__).parent / "pretrained"

_HOMES = {
    "MusicnnConfig": "configuration_musicnn",
    "MusicnnFeatureExtractor": "feature_extraction_musicnn",
    "MusicnnModel": "modeling_musicnn",
}

__all__ = ["PRETRAINED", *_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
