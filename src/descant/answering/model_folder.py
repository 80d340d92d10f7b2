"""Loads a model for answering or classifying, from a folder or the Hub, or says why it cannot."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descant.files import sha256_of
from descant.models.registration import MODELS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

PRECISIONS = ("fp32", "bf16", "int8")  # in which a Listener may answer; known here without the seconds of torch
ANSWERING, CLASSIFYING = "AutoModelForMultimodalLM", "AutoModelForSequenceClassification"
REFUSALS = {
    ANSWERING: "cannot answer about music; descant asks",
    CLASSIFYING: "gives music no labels; descant classifies with",
}
# What loading reads; code is not needed where descant is installed.
FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "training_clips.txt.gz")
# What decides a model's answers.
WEIGHT_FILES = (
    "*.safetensors", "config.json", "adapter_config.json", "generation_config.json", "processor_config.json",
    "preprocessor_config.json", "tokenizer*.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
    "vocab.*", "merges.txt", "chat_template.*",
)  # fmt: skip
# Where a folder names other models that it is loaded onto.
BASES = {"config.json": ("audio_model_id", "text_model_id"), "adapter_config.json": ("base_model_name_or_path",)}


class ModelFolderError(ValueError):
    """The given model cannot do what is asked of it; the message says why and what to give."""


def find_model(source: str, auto: str = ANSWERING) -> Path:
    """The folder itself, or the local copy of a model on the Hub; raises ModelFolderError.

    auto: the Auto class that is to load it. Needs no torch, so that a wrong name is told at once.
    """
    folder = Path(source) if Path(source).exists() else _download(source)
    problem = _find_fault(folder, auto)
    if problem:
        raise ModelFolderError(f"{source}: {problem}")
    return folder


def load_model(folder: Path, auto: str = ANSWERING) -> tuple["PreTrainedModel", "ProcessorMixin"]:
    """Loads the model, in float32 and eval mode, and its processor.

    auto: the Auto class that loads it. Raises ModelFolderError for a folder that lacks a part or holds a damaged one.
    """
    import torch
    import transformers
    from safetensors import SafetensorError

    import descant  # noqa: F401  (makes the Auto classes know the model)
    from descant.hub_client import NetworkError, load_patiently

    def load() -> tuple["ProcessorMixin", tuple["PreTrainedModel", dict[str, Any]]]:
        processor = transformers.AutoProcessor.from_pretrained(folder)
        loader = getattr(transformers, auto)
        return processor, loader.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)

    try:
        processor, (model, found) = load_patiently(load, folder, *_named_bases(folder))
    except NetworkError as error:
        raise ModelFolderError(f"{folder} is loaded onto another model: {error}") from error
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelFolderError(f"{folder}: cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    if found["missing_keys"]:  # transformers fills them with random numbers
        raise ModelFolderError(f"{folder}: weights are missing, {sorted(found['missing_keys'])[0]} among them")
    return model.eval(), processor


def _download(source: str) -> Path:
    from descant.hub_client import MissingError, NetworkError, fetch_folder

    try:
        return fetch_folder(source, FILES)
    except MissingError as error:
        raise ModelFolderError(f"{source}: no such folder here; {error}") from error
    except NetworkError as error:
        raise ModelFolderError(str(error)) from error


def _find_fault(folder: Path, auto: str) -> str | None:
    if not folder.is_dir():
        return "is a file; a checkpoint of the reference becomes a model folder by `descant convert`"
    if not (folder / "config.json").is_file():
        return "is not a model folder: it has no config.json; give one that a recipe or `descant convert` wrote"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config["model_type"]
    except (ValueError, KeyError, TypeError):
        return "is not a model folder: its config.json names no model type"
    able = [name for name, classes in MODELS.items() if auto in classes]
    return None if kind in able else f"is a {kind} model, which {REFUSALS[auto]} {', '.join(able)} models"


def fingerprint_model(folder: Path) -> str:
    """16 hex digits of all files that decide what a model answers, those of the folders that it is loaded onto too."""
    prints = [fingerprint_files(folder, WEIGHT_FILES), *map(fingerprint_model, _local_bases(folder))]
    return prints[0] if len(prints) == 1 else hashlib.sha256(" ".join(prints).encode()).hexdigest()[:16]


def _named_bases(folder: Path) -> list[str]:
    """Return the folders and Hub ids that a model's configurations name as its parts or its base."""
    named = []
    for name, keys in BASES.items():
        config = json.loads((folder / name).read_text(encoding="utf-8")) if (folder / name).is_file() else {}
        named += [config[key] for key in keys if config.get(key)]
    return named


def _local_bases(folder: Path) -> list[Path]:
    """Return those of a model's bases that are folders here, the model itself left out."""
    named = map(Path, _named_bases(folder))
    return [path for path in named if path.is_dir() and path.resolve() != folder.resolve()]


def fingerprint_files(folder: Path, patterns: Iterable[str]) -> str:
    """16 hex digits of the names and contents of the files in a folder that match one of the patterns."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    return digest.hexdigest()[:16]
