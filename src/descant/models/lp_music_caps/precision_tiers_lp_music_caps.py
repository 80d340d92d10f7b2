"""Linear layers that trade exact tokens for speed; each is chosen by name, none by default."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn.functional import gelu

from .packed_linear_lp_music_caps import FixedRowsLinear, PackedLinear, StackedLinear


class Bfloat16Linear:
    """PackedLinear with weights, products and results in bfloat16; twice as fast where the processor has it."""

    def __init__(self, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> None:
        self.packed = PackedLinear([weight.bfloat16() for weight in weights], [bias.bfloat16() for bias in biases])

    def __call__(self, rows: torch.Tensor, activation: str = "none") -> torch.Tensor:
        return self.packed(rows.bfloat16(), activation).float()

    def add_to(self, residual: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return residual + self(rows)


class Int8Linear:
    """Weights in 8 bits, with a scale for each output; rows are rounded as they come, each with a scale of its own,
    so that a row's result does not depend on the other rows.

    Rows take 7 bits on a processor without VNNI: its products are added in pairs of 16 bits, and of 8 they overflow.
    """

    def __init__(self, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> None:
        self.zero = 128 if torch.cpu._is_vnni_supported() else 64  # the kernels want unsigned rows: this stands for 0
        weight = torch.cat([part.detach() for part in weights])
        self.bias = torch.cat([part.detach() for part in biases])
        self.scales = (weight.abs().amax(dim=1) / 127).clamp(min=1e-12)
        self.zeros = torch.zeros_like(self.scales, dtype=torch.int32)
        rounded = (weight / self.scales[:, None]).round().to(torch.int8)
        self.weight = torch.ops.onednn.qlinear_prepack(rounded, None)

    def __call__(self, rows: torch.Tensor, activation: str = "none") -> torch.Tensor:
        scales = (rows.abs().amax(dim=1, keepdim=True) / (self.zero - 1)).clamp_(min=1e-12)
        rounded = (rows / scales).round_().add_(self.zero).to(torch.uint8)
        weight = (self.weight, self.scales, self.zeros, None)
        result = torch.ops.onednn.qlinear_pointwise(
            rounded, 1.0, self.zero, *weight, 1.0, 0, torch.float32, "none", [], ""
        )
        result = torch.addcmul(self.bias, result, scales)
        return gelu(result) if activation == "gelu" else result

    def add_to(self, residual: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return residual + self(rows)


Linear = PackedLinear | FixedRowsLinear | StackedLinear | Bfloat16Linear | Int8Linear

TIERS: dict[str, type[PackedLinear] | type[Bfloat16Linear] | type[Int8Linear]] = {
    "fp32": PackedLinear,
    "bf16": Bfloat16Linear,
    "int8": Int8Linear,
}


def has_bfloat16(device: torch.device | str = "cpu") -> bool:
    """Whether a GPU, or this processor, multiplies bfloat16 numbers."""
    if torch.device(device).type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def check_tier(tier: str, device: torch.device | str = "cpu") -> None:
    """Raise ValueError for a tier that does not exist, or not on this device."""
    if tier not in TIERS:
        raise ValueError(f"there is no tier {tier!r}: choose one of {', '.join(TIERS)}")
    if tier == "int8" and torch.device(device).type != "cpu":
        raise ValueError(f"tier 'int8' needs a CPU, and the model is on {device}: choose 'bf16' or 'fp32'")
    if tier == "bf16" and not has_bfloat16(device):
        needed = "a processor with AVX-512 or AVX-NE-CONVERT: choose 'int8' or 'fp32'"
        if torch.device(device).type == "cuda":
            needed = "a GPU with bfloat16 (Ampere or newer): choose 'fp32'"
        raise ValueError(f"tier 'bf16' needs {needed}")


def encoding_tier(tier: str, device: torch.device | str = "cpu") -> str:
    """The precision in which a tier encodes: bfloat16 below fp32, where the device has it."""
    return "bf16" if tier != "fp32" and has_bfloat16(device) else "fp32"


def lower_precision(tier: str, device: torch.device | str = "cpu") -> AbstractContextManager:
    """The context in which a tier encodes: for fp32 the one that is there."""
    if encoding_tier(tier, device) == "fp32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


def new_linear(
    tier: str, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor], rows: int | None = None
) -> Linear:
    """Stack weights in one of the TIERS; rows: how many rows they always get, if that is known."""
    if weights[0].device.type != "cpu":
        return StackedLinear(weights, biases, torch.bfloat16 if tier == "bf16" else torch.float32)
    if tier == "fp32" and rows is not None:
        return FixedRowsLinear(weights, biases, rows)
    return TIERS[tier](weights, biases)


def pack(tier: str, *layers: nn.Linear, rows: int | None = None) -> Linear:
    """Pack layers that share their input into one."""
    return new_linear(tier, [layer.weight for layer in layers], [layer.bias for layer in layers], rows)
