"""musicnn: two small convolutional networks that tag real music, as an audio encoder (arXiv 1909.06654)."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers, which do not run __getattr__
    from descant.models.musicnn.configuration_musicnn import MusicnnConfig as MusicnnConfig
    from descant.models.musicnn.feature_extraction_musicnn import MusicnnFeatureExtractor as MusicnnFeatureExtractor
    from descant.models.musicnn.modeling_musicnn import MusicnnModel as MusicnnModel

# The folder with the weights of both published networks, which the package ships.
PRETRAINED = Path(__file__).parent / "pretrained"

_HOMES = {
    "MusicnnConfig": "configuration_musicnn",
    "MusicnnFeatureExtractor": "feature_extraction_musicnn",
    "MusicnnModel": "modeling_musicnn",
}

__all__ = ["PRETRAINED", *_HOMES]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted(__all__)
