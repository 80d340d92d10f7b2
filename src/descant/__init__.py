"""Listens to music and talks about it: captions, answers to questions, honest scores.

    import descant

    listener = descant.load("MODEL")
    print(listener.ask("song.mp3", "What is the mood?").prediction)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from descant.models.registration import register

if TYPE_CHECKING:  # for editors and type checkers, which do not run __getattr__
    from descant.answering.evidence import explain as explain
    from descant.answering.listener import Listener as Listener
    from descant.answering.listener import load as load
    from descant.data.audio import load_audio as load_audio
    from descant.evaluation.evaluate import EvaluationSettings as EvaluationSettings
    from descant.evaluation.evaluate import evaluate as evaluate
    from descant.evaluation.scoring import score as score
    from descant.models.lp_music_caps import LPMusicCapsConfig as LPMusicCapsConfig
    from descant.models.lp_music_caps import LPMusicCapsFeatureExtractor as LPMusicCapsFeatureExtractor
    from descant.models.lp_music_caps import LPMusicCapsForConditionalGeneration as LPMusicCapsForConditionalGeneration
    from descant.models.lp_music_caps import LPMusicCapsProcessor as LPMusicCapsProcessor
    from descant.models.mert_lm import MertLMConfig as MertLMConfig
    from descant.models.mert_lm import MertLMFeatureExtractor as MertLMFeatureExtractor
    from descant.models.mert_lm import MertLMForConditionalGeneration as MertLMForConditionalGeneration
    from descant.models.mert_lm import MertLMProcessor as MertLMProcessor
    from descant.models.subgenre import SubgenreConfig as SubgenreConfig
    from descant.models.subgenre import SubgenreForSequenceClassification as SubgenreForSequenceClassification
    from descant.models.subgenre import SubgenreProcessor as SubgenreProcessor
    from descant.training import Recipe as Recipe
    from descant.training import Stage as Stage
    from descant.training import train as train

__version__ = "0.1.0"

# Public name → the module that defines it, imported when the name is first used.
_HOMES = {
    "EvaluationSettings": "descant.evaluation.evaluate",
    "Listener": "descant.answering.listener",
    "Recipe": "descant.training",
    "Stage": "descant.training",
    "evaluate": "descant.evaluation.evaluate",
    "explain": "descant.answering.evidence",
    "load": "descant.answering.listener",
    "load_audio": "descant.data.audio",
    "score": "descant.evaluation.scoring",
    "train": "descant.training",
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
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted([*__all__, "__version__"])
