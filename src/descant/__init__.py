"""Listens to music and talks about it: captions, answers to questions, honest scores."""

from importlib import import_module

from descant.models.registration import register

__version__ = "0.1.0"

# Public name → the module that defines it, imported when the name is first used.
_HOMES = {
    "LPMusicCapsConfig": "descant.models.lp_music_caps",
    "LPMusicCapsFeatureExtractor": "descant.models.lp_music_caps",
    "LPMusicCapsForConditionalGeneration": "descant.models.lp_music_caps",
    "LPMusicCapsProcessor": "descant.models.lp_music_caps",
    "MertLMConfig": "descant.models.mert_lm",
    "MertLMFeatureExtractor": "descant.models.mert_lm",
    "MertLMForConditionalGeneration": "descant.models.mert_lm",
    "MertLMProcessor": "descant.models.mert_lm",
    "SubgenreConfig": "descant.models.subgenre",
    "SubgenreForSequenceClassification": "descant.models.subgenre",
    "SubgenreProcessor": "descant.models.subgenre",
}

__all__ = list(_HOMES)

register()


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
