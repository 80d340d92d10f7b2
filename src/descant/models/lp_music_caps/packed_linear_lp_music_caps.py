"""Linear layers for a few rows at a time: on a CPU their weights are laid out once as oneDNN's kernels want them."""

from collections.abc import Sequence

import torch
from torch.nn.functional import gelu, linear


class PackedLinear:
    """Computes x · Wᵀ + b on a CPU, without gradients, from a packed copy of one or several stacked weights.

    A product of few rows spends most of its time in bringing the weight into the kernel's layout: packed once, 5 rows
    of BART's vocabulary head take a third of the time, 160 rows two thirds. A row's result does not depend on the
    other rows.
    """

    def __init__(self, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> None:
        weight = weights[0].detach() if len(weights) == 1 else torch.cat([weight.detach() for weight in weights])
        self.bias = torch.cat([bias.detach() for bias in biases])
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight)

    def __call__(self, rows: torch.Tensor, activation: str = "none") -> torch.Tensor:
        """Map rows (count, in) to (count, out); activation "gelu" is the exact one."""
        return torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, activation, [], "none")

    def add_to(self, residual: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Map rows and add the result to residual (count, out), in one pass."""
        return torch.ops.mkldnn._linear_pointwise.binary(rows, residual, self.weight, self.bias, "add")


# Padding, stride, dilation and groups of a 1 × 1 convolution.
PLACES = [0, 0], [1, 1], [1, 1], 1


class FixedRowsLinear:
    """PackedLinear for rows whose number is always the same: a 1 × 1 convolution over as many places.

    oneDNN's convolutions take five sixths of the time of its products, with 5 rows of BART's decoder as with 160. The
    weight's layout depends on the number of rows, and another number would lay it out anew each time: hence the fixed
    one.
    """

    def __init__(self, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor], rows: int) -> None:
        weight = torch.cat([weight.detach() for weight in weights])
        shape = [1, weight.shape[1], 1, rows]
        self.bias = torch.cat([bias.detach() for bias in biases])
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight[:, :, None, None], *PLACES, shape)

    def __call__(self, rows: torch.Tensor, activation: str = "none") -> torch.Tensor:
        """Map rows (count, in) to (count, out); activation "gelu" is the exact one."""
        packed = self.weight, self.bias, *PLACES
        return as_rows(torch.ops.mkldnn._convolution_pointwise(as_places(rows), *packed, activation, [], "none"))

    def add_to(self, residual: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Map rows and add the result to residual (count, out), in one pass."""
        packed = self.weight, self.bias, *PLACES
        both = as_places(rows), as_places(residual)
        return as_rows(torch.ops.mkldnn._convolution_pointwise.binary(*both, *packed, "add", None, None, [], None))


def as_places(rows: torch.Tensor) -> torch.Tensor:
    """View contiguous rows (count, width) as a channels-last image (1, width, 1, count)."""
    count, width = rows.shape
    return rows.as_strided((1, width, 1, count), (count * width, 1, count * width, width))


def as_rows(image: torch.Tensor) -> torch.Tensor:
    """The inverse of `as_places`."""
    _, width, _, count = image.shape
    return image.as_strided((count, width), (width, 1))


class StackedLinear:
    """The same on a GPU, which takes weights as they are; they and the products may have a lower precision."""

    def __init__(
        self, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor], dtype: torch.dtype = torch.float32
    ) -> None:
        self.weight = torch.cat([weight.detach() for weight in weights]).to(dtype)
        self.bias = torch.cat([bias.detach() for bias in biases]).to(dtype)

    def __call__(self, rows: torch.Tensor, activation: str = "none") -> torch.Tensor:
        """Map rows (count, in) to (count, out); activation "gelu" is the exact one."""
        result = linear(rows.to(self.weight.dtype), self.weight, self.bias).to(rows.dtype)
        return gelu(result) if activation == "gelu" else result

    def add_to(self, residual: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Map rows and add the result to residual (count, out)."""
        return residual + self(rows)
