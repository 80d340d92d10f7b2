"""The instruction-prompted LP-MusicCaps model, its configuration, processor and feature extractor."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers, which do not run __getattr__
    from descant.models.lp_music_caps.configuration_lp_music_caps import LPMusicCapsConfig as LPMusicCapsConfig
    from descant.models.lp_music_caps.feature_extraction_lp_music_caps import (
        LPMusicCapsFeatureExtractor as LPMusicCapsFeatureExtractor,
    )
    from descant.models.lp_music_caps.modeling_lp_music_caps import LPMusicCapsAudioModel as LPMusicCapsAudioModel
    from descant.models.lp_music_caps.modeling_lp_music_caps import (
        LPMusicCapsForConditionalGeneration as LPMusicCapsForConditionalGeneration,
    )
    from descant.models.lp_music_caps.processing_lp_music_caps import LPMusicCapsProcessor as LPMusicCapsProcessor

_HOMES = {
    "LPMusicCapsConfig": "configuration_lp_music_caps",
    "LPMusicCapsFeatureExtractor": "feature_extraction_lp_music_caps",
    "LPMusicCapsProcessor": "processing_lp_music_caps",
    "LPMusicCapsAudioModel": "modeling_lp_music_caps",
    "LPMusicCapsForConditionalGeneration": "modeling_lp_music_caps",
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
