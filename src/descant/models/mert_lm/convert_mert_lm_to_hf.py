"""Turns a projector checkpoint of the AnyModal fork (a pickle of a state dict) into a folder for from_pretrained."""

import pickle
from pathlib import Path

import torch

from .modeling_mert_lm import MertLMForConditionalGeneration
from .parts_mert_lm import join_parts

LAYER = "inp_layer"


class ConversionError(ValueError):
    """Says in one sentence why a checkpoint cannot be converted."""


def convert_checkpoint(
    checkpoint: Path, audio_encoder: str, text_model: str, output: Path, **settings: object
) -> MertLMForConditionalGeneration:
    """Write configuration, projector and processor to `output`, which names the parts; returns the model.

    settings: those of `join_parts`; without them the encoder's last state is heard, each frame of it, as in the fork.
    Raises ConversionError where something cannot be read, and for weights that are unknown, missing or misshapen.
    """
    if output.exists() and not output.is_dir():
        raise ConversionError(f"{output} is a file: give a folder")
    weights = read_projector(checkpoint)
    try:
        model, processor = join_parts(
            audio_encoder, text_model, **{"layer_mix": "last", "pooling": "none", "projector": "linear", **settings}
        )
    except (OSError, ValueError) as error:
        raise ConversionError(f"{audio_encoder} and {text_model} cannot be joined: {first_line(error)}") from error
    projection = model.projector.projection
    for name, own in (("weight", projection.weight), ("bias", projection.bias)):
        if weights[name].shape != own.shape:
            raise ConversionError(
                f"{LAYER}.{name} has shape {tuple(weights[name].shape)}, the parts make it {tuple(own.shape)}"
            )
    projection.load_state_dict({name: weight.float() for name, weight in weights.items()})
    output.mkdir(parents=True, exist_ok=True)
    processor.save_pretrained(output)
    model.save_pretrained(output)
    return model


def read_projector(checkpoint: Path) -> dict[str, torch.Tensor]:
    """`weight` and `bias` of the projector, whatever stands before their names; no code in the file is run."""
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConversionError(f"there is no file {checkpoint}") from error
    except pickle.UnpicklingError as error:
        raise ConversionError(f"{checkpoint} is no pickle of weights alone; anything else could run code") from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise ConversionError(f"{checkpoint} cannot be read as a checkpoint: {first_line(error)}") from error
    weights = content.get("state_dict", content) if isinstance(content, dict) else {}
    found = {}
    for name, weight in weights.items():
        layer, _, kind = name.rpartition(".")
        if layer.split(".")[-1] != LAYER or kind not in ("weight", "bias") or not torch.is_tensor(weight):
            raise ConversionError(f"{checkpoint} holds {name}, which is no part of a projector")
        if kind in found:
            raise ConversionError(f"{checkpoint} holds two weights named {LAYER}.{kind}, {name} among them")
        found[kind] = weight
    if missing := {"weight", "bias"} - found.keys():
        raise ConversionError(f"{checkpoint} lacks {LAYER}.{sorted(missing)[0]}")
    return found


def first_line(error: Exception) -> str:
    """The first line of an error's message: libraries add paragraphs of advice."""
    return str(error).strip().split("\n")[0].rstrip(".")
