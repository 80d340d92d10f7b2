"""Label-smoothed cross entropy, scaled so that accumulation and several processes give one batch's loss."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional


def smoothed_cross_entropy(smoothing: float) -> Callable[..., torch.Tensor]:
    """The loss function for `Trainer(compute_loss_func=…)`.

    `(1 − ε)·NLL + ε·mean over the vocabulary of −log p`, summed over the label positions that are not −100 and divided
    by `num_items_in_batch` (their count over all accumulated batches and processes), or by this batch's count. The
    form is that of Szegedy et al. 2016 (arXiv 1512.00567, section 7) and of transformers' `LabelSmoother`.
    """

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None) -> torch.Tensor:
        logits = outputs["logits"]  # (batch, tokens, vocabulary)
        total = functional.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100, label_smoothing=smoothing,
            reduction="sum",
        )  # fmt: skip
        return total / (labels.ne(-100).sum() if num_items_in_batch is None else num_items_in_batch)

    return loss
