"""Registers the models with transformers' Auto classes, without importing transformers before it is needed."""

import importlib.util
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Model type, which is also the model folder's name → Auto class → the class of the folder that it gives.
MODELS = {
    "lp_music_caps": {
        "AutoConfig": "LPMusicCapsConfig",
        "AutoFeatureExtractor": "LPMusicCapsFeatureExtractor",
        "AutoProcessor": "LPMusicCapsProcessor",
        "AutoModel": "LPMusicCapsAudioModel",
        "AutoModelForSeq2SeqLM": "LPMusicCapsForConditionalGeneration",
        "AutoModelForMultimodalLM": "LPMusicCapsForConditionalGeneration",
    },
    "mert_lm": {
        "AutoConfig": "MertLMConfig",
        "AutoFeatureExtractor": "MertLMFeatureExtractor",
        "AutoProcessor": "MertLMProcessor",
        "AutoModelForMultimodalLM": "MertLMForConditionalGeneration",
    },
    "musicnn": {
        "AutoConfig": "MusicnnConfig",
        "AutoFeatureExtractor": "MusicnnFeatureExtractor",
        "AutoModel": "MusicnnModel",
    },
    "subgenre": {
        "AutoConfig": "SubgenreConfig",
        "AutoProcessor": "SubgenreProcessor",
        "AutoModelForSequenceClassification": "SubgenreForSequenceClassification",
    },
}

# Pipeline → the module and class that run it, the Auto class that loads its model, the kind of its inputs.
PIPELINES = {
    "music-question-answering": (
        "lp_music_caps.pipeline_music", "MusicQuestionAnsweringPipeline",
        "AutoModelForMultimodalLM", "multimodal",
    ),
    "music-decision": (
        "lp_music_caps.pipeline_music", "MusicDecisionPipeline", "AutoModelForMultimodalLM", "multimodal",
    ),
    "music-subgenre-classification": (
        "subgenre.pipeline_music_subgenre_classification", "MusicSubgenreClassificationPipeline",
        "AutoModelForSequenceClassification", "multimodal",
    ),
}  # fmt: skip

# Auto class → the module and the mapping by which transformers finds a model's class by name, at its first use.
AUTO = "transformers.models.auto"
MAPPINGS = {
    "AutoConfig": (f"{AUTO}.configuration_auto", "CONFIG_MAPPING_NAMES"),
    "AutoFeatureExtractor": (f"{AUTO}.feature_extraction_auto", "FEATURE_EXTRACTOR_MAPPING_NAMES"),
    "AutoProcessor": (f"{AUTO}.processing_auto", "PROCESSOR_MAPPING_NAMES"),
    "AutoModel": (f"{AUTO}.modeling_auto", "MODEL_MAPPING_NAMES"),
    "AutoModelForSeq2SeqLM": (f"{AUTO}.modeling_auto", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES"),
    "AutoModelForMultimodalLM": (f"{AUTO}.modeling_auto", "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES"),
    "AutoModelForSequenceClassification": (f"{AUTO}.modeling_auto", "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES"),
}
PIPELINES_MODULE = "transformers.pipelines"


class AutoNames(MetaPathFinder):
    """Adds our names to transformers' mappings, and our pipelines to theirs, as soon as their module is imported."""

    def __init__(self, waiting: set[str]) -> None:
        self.waiting = waiting

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module of transformers that is waited for, so that executing it adds our names."""
        if name not in self.waiting:
            return None
        self.waiting.remove(name)  # before the search below, which comes through here again
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_add_names(module: ModuleType) -> None:
            execute(module)
            if name == PIPELINES_MODULE:
                register_pipelines()
            add_names(module)

        spec.loader.exec_module = execute_and_add_names  # type: ignore[method-assign]  # of this one spec
        return spec


def add_names(module: ModuleType) -> None:
    """Add our names to the mappings of one of transformers' modules that has just been imported."""
    for model_type, classes in MODELS.items():
        for auto, class_name in classes.items():
            home, mapping = MAPPINGS[auto]
            if home == module.__name__:
                vars(module)[mapping][model_type] = class_name


def register_classes() -> None:
    """Register with Auto classes that are imported already: their mappings have been read, so names come too late."""
    import transformers

    for model_type, classes in MODELS.items():
        folder = import_module(f"descant.models.{model_type}")
        config = getattr(folder, classes["AutoConfig"])
        transformers.AutoConfig.register(model_type, config, exist_ok=True)
        for auto, class_name in classes.items():
            if auto != "AutoConfig":
                getattr(transformers, auto).register(config, getattr(folder, class_name), exist_ok=True)


def register_pipelines() -> None:
    """Register `pipeline("music-question-answering")` and the others of PIPELINES."""
    import transformers
    from transformers.pipelines import PIPELINE_REGISTRY

    for name, (module, class_name, auto, kind) in PIPELINES.items():
        run = getattr(import_module(f"descant.models.{module}"), class_name)
        PIPELINE_REGISTRY.register_pipeline(name, run, pt_model=getattr(transformers, auto), type=kind)


def register() -> None:
    """Register now where transformers' Auto classes are imported, else by name when they are.

    transformers' models and torch take 7 s to import, and `descant --help` needs neither.
    """
    if f"{AUTO}.configuration_auto" in sys.modules:
        register_classes()
        waiting = set()
    else:
        for model_type in MODELS:
            sys.modules[f"transformers.models.{model_type}"] = import_module(f"descant.models.{model_type}")
        waiting = {home for home, _ in MAPPINGS.values()}
    if PIPELINES_MODULE in sys.modules:
        register_pipelines()
    else:
        waiting.add(PIPELINES_MODULE)
    sys.meta_path.insert(0, AutoNames(waiting))
