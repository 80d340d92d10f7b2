"""Loads a model for answering, from a folder or the Hub, or says why it cannot answer."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from descant.models.registration import MODELS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

ANSWERING_TYPES = tuple(kind for kind, classes in MODELS.items() if "AutoModelForMultimodalLM" in classes)
FILES = ("*.json", "*.safetensors", "*.txt")  # what loading reads; code is not needed where descant is installed


class ModelFolderError(ValueError):
    """The given model cannot answer questions; the message says why and what to give."""


def find_model(source: str) -> Path:
    """The folder itself, or the local copy of a model on the Hub; raises ModelFolderError.

    Needs no torch, so that a wrong name is told at once.
    """
    folder = Path(source) if Path(source).exists() else _download(source)
    problem = _find_fault(folder)
    if problem:
        raise ModelFolderError(f"{source}: {problem}")
    return folder


def load_model(folder: Path, precision: str = "fp32") -> tuple["PreTrainedModel", "ProcessorMixin"]:
    """Loads the model, in eval mode, and its processor; fp32 gives the reference's answers.

    precision: fp32 or bf16. Raises ModelFolderError for a folder that lacks a part or holds a damaged one.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForMultimodalLM, AutoProcessor

    import descant  # noqa: F401  (makes the Auto classes know the model)

    try:
        processor = AutoProcessor.from_pretrained(folder)
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        model, found = AutoModelForMultimodalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelFolderError(f"{folder}: cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    if found["missing_keys"]:  # transformers fills them with random numbers
        raise ModelFolderError(f"{folder}: weights are missing, {sorted(found['missing_keys'])[0]} among them")
    return model.eval(), processor


def _download(source: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, allow_patterns=FILES))
    except HFValidationError as error:
        raise ModelFolderError(f"{source}: no such folder") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelFolderError(f"{source}: no such folder here, and not found on the Hub ({reason})") from error


def _find_fault(folder: Path) -> str | None:
    if not folder.is_dir():
        return "is a file; a checkpoint of the reference becomes a model folder by `descant convert`"
    if not (folder / "config.json").is_file():
        return "is not a model folder: it has no config.json; give one that a recipe or `descant convert` wrote"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config["model_type"]
    except (ValueError, KeyError, TypeError):
        return "is not a model folder: its config.json names no model type"
    if kind not in ANSWERING_TYPES:
        return f"is a {kind} model, which cannot answer about music; descant asks {', '.join(ANSWERING_TYPES)} models"
    return None
