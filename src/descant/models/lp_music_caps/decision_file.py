"""How `decision.json` is written, and by what it knows the weights that it was fitted for.

All that is fitted is wrong in silence for other weights of the same shapes. So the file has some numbers that these
weights alone give, in any dtype. This file lies in the folder of every question-answering model, byte for byte the
same.
"""

import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

NUMBERS = re.compile(r"\[\s+-?\d[^\[\]\"]*\]")  # a list of numbers in JSON, of which each would have a line
OUTPUTS_KEPT = 8  # of a layer, by which weights are known
MATRICES_KEPT = 24  # of a part that never trains
SAME_OUTPUTS = 0.02  # how far they may lie apart, of their length: bfloat16 moves them by up to 0.004
ROWS_READ = 64  # of a matrix: enough to know it by, and little to read


def write_settings(path: Path, values: Mapping[str, Any]) -> None:
    """Write settings as JSON beside `path` and move them there: a kill or a full disk leaves the old ones, whole."""
    text = NUMBERS.sub(lambda found: re.sub(r"\s+", " ", found[0]), json.dumps(values, indent=2))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def know_weights(
    model: nn.Module, adapted: str, trained: Mapping[str, nn.Module], frozen: Mapping[str, nn.Module]
) -> dict[str, list[float]]:
    """Return numbers that a model's weights alone give, by the names of layers and parts; without those not at hand.

    adapted: a regular expression over the names of the layers that LoRA adapts: the first, the middle and the last
        count. trained: layers that train whole. frozen: parts that never train, which come from elsewhere.
    """
    names = [name for name, _ in model.named_modules() if re.fullmatch(adapted, name)]
    picked = {*names[:1], *names[len(names) // 2 :][:1], *names[-1:]}
    layers = dict(trained) | {name: model.get_submodule(name) for name in sorted(picked)}
    numbers = {name: compute_projections(part) for name, part in frozen.items()}
    numbers |= {name: compute_outputs(layer) for name, layer in layers.items()}
    return {name: found for name, found in numbers.items() if found}


def compute_outputs(layer: nn.Module) -> list[float]:
    """Return eight outputs of a linear or convolutional layer, its adapter included, for a fixed input.

    None of them where its weight is not at hand as it is: quantised, divided among devices, or not loaded.
    """
    weight: Any = layer.weight
    if not is_at_hand(weight) or weight.ndim < 2:
        return []
    inputs = torch.arange(1.0, 1 + weight[0].numel()).sin().view(1, *weight.shape[1:])
    outputs = layer(inputs.to(weight)).flatten().float()
    return [float(f"{number:.4g}") for number in outputs[:: -(-len(outputs) // OUTPUTS_KEPT)].tolist()]


def compute_projections(part: nn.Module) -> list[float]:
    """Return one number for each of some matrices of a part, spread over it: its rows times fixed waves, by its norm.

    None of them where a matrix is not at hand as it is; see `compute_outputs`.
    """
    matrices: list[Any] = [weight for weight in part.parameters() if weight.ndim > 1]
    if not all(map(is_at_hand, matrices)):
        return []
    return [project(weight.detach()) for weight in matrices[:: -(-len(matrices) // MATRICES_KEPT) or 1]]


def project(weight: torch.Tensor) -> float:
    """Return the sum of the entries of 64 rows at most, times a wave along rows and columns, over their norm."""
    rows = weight.flatten(1)[:: -(-len(weight) // ROWS_READ)].float()
    down, along = (torch.arange(1.0, 1 + size, device=rows.device).sin() for size in rows.shape)
    return float(f"{float(down @ (rows @ along)) / max(float(rows.norm()), 1e-30):.4g}")


def is_at_hand(weight: Any) -> bool:
    """Return whether a weight is a plain parameter with numbers."""
    return type(weight) is nn.Parameter and weight.is_floating_point() and not weight.is_meta


def are_close(outputs: Sequence[float], others: Sequence[float]) -> bool:
    """Return whether outputs of a layer are those of the same weights, in whatever precision."""
    alike = len(outputs) == len(others)
    return alike and bool(np.linalg.norm(np.subtract(outputs, others)) <= SAME_OUTPUTS * np.linalg.norm(others))


__all__ = ["are_close", "compute_outputs", "know_weights", "write_settings"]
