"""Makes transformers' Auto classes know the models, without importing transformers before somebody needs it."""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import descant.models.lp_music_caps as lp_music_caps

AUTO = "transformers.models.auto"

# transformers finds its own models by name: in each of these modules a mapping leads from the model type, which is
# also the model folder's name, to a class in that folder, imported at the first use.
NAMES = {
    f"{AUTO}.configuration_auto": {"CONFIG_MAPPING_NAMES": "LPMusicCapsConfig"},
    f"{AUTO}.feature_extraction_auto": {"FEATURE_EXTRACTOR_MAPPING_NAMES": "LPMusicCapsFeatureExtractor"},
    f"{AUTO}.processing_auto": {"PROCESSOR_MAPPING_NAMES": "LPMusicCapsProcessor"},
    f"{AUTO}.modeling_auto": {
        "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES": "LPMusicCapsForConditionalGeneration",
        "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES": "LPMusicCapsForConditionalGeneration",
    },
}


PIPELINES = "transformers.pipelines"


class AutoNames(MetaPathFinder):
    """Adds our names to each of the modules of NAMES, and our pipeline to theirs, as soon as it has been imported."""

    def __init__(self, waiting: set[str]) -> None:
        self.waiting = waiting

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self.waiting:
            return None
        self.waiting.remove(name)  # before the search below, which comes through here again
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_add_names(module: ModuleType) -> None:
            execute(module)
            if name == PIPELINES:
                register_pipeline()
            for mapping, class_name in NAMES.get(name, {}).items():
                vars(module)[mapping]["lp_music_caps"] = class_name

        spec.loader.exec_module = execute_and_add_names
        return spec


def register_classes() -> None:
    """Register with Auto classes that are imported already: their mappings have been read, so names come too late."""
    from transformers import (
        AutoConfig,
        AutoFeatureExtractor,
        AutoModelForMultimodalLM,
        AutoModelForSeq2SeqLM,
        AutoProcessor,
    )

    config, model = lp_music_caps.LPMusicCapsConfig, lp_music_caps.LPMusicCapsForConditionalGeneration
    AutoConfig.register(config.model_type, config, exist_ok=True)
    AutoFeatureExtractor.register(config, lp_music_caps.LPMusicCapsFeatureExtractor, exist_ok=True)
    AutoProcessor.register(config, lp_music_caps.LPMusicCapsProcessor, exist_ok=True)
    AutoModelForSeq2SeqLM.register(config, model, exist_ok=True)
    AutoModelForMultimodalLM.register(config, model, exist_ok=True)


def register_pipeline() -> None:
    """Register `pipeline("music-question-answering")`."""
    from transformers import AutoModelForSeq2SeqLM
    from transformers.pipelines import PIPELINE_REGISTRY

    from descant.models.lp_music_caps.pipeline_music_question_answering import MusicQuestionAnsweringPipeline

    PIPELINE_REGISTRY.register_pipeline(
        "music-question-answering", MusicQuestionAnsweringPipeline, pt_model=AutoModelForSeq2SeqLM, type="multimodal"
    )


def register() -> None:
    """Register now where transformers' Auto classes are imported, else by name when they are.

    transformers' models and torch take 7 s to import, and `descant --help` needs neither.
    """
    if f"{AUTO}.configuration_auto" in sys.modules:
        register_classes()
        waiting = set()
    else:
        sys.modules["transformers.models.lp_music_caps"] = lp_music_caps
        waiting = set(NAMES)
    if PIPELINES in sys.modules:
        register_pipeline()
    else:
        waiting.add(PIPELINES)
    sys.meta_path.insert(0, AutoNames(waiting))
