"""The instruction-prompted LP-MusicCaps model, its configuration, processor and feature extractor."""

from importlib import import_module

_HOMES = {
    "LPMusicCapsConfig": "configuration_lp_music_caps",
    "LPMusicCapsFeatureExtractor": "feature_extraction_lp_music_caps",
    "LPMusicCapsProcessor": "processing_lp_music_caps",
    "LPMusicCapsAudioModel": "modeling_lp_music_caps",
    "LPMusicCapsForConditionalGeneration": "modeling_lp_music_caps",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
