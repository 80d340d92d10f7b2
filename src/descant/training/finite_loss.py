"""Mixin for a `transformers.Trainer` that stops at a loss that is not finite, before anything of it is saved."""

from typing import Any

import torch
from torch.distributed.tensor import DTensor

# Reading a loss makes the host wait for the device, so on an accelerator this many steps are read at once.
STEPS_A_READ = 32


class NonFiniteLossError(RuntimeError):
    """The loss or the weights became NaN or infinite; the message names the batch."""


class FiniteLoss:
    """Goes before `Trainer` (and before `AtomicSaving`) among the bases.

    A batch may carry `row_index` (batch,): it never reaches the model, and the error names its rows through
    `describe_rows`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._unread: list[tuple[int, torch.Tensor, torch.Tensor | None]] = []  # step, loss, rows

    def describe_rows(self, rows: list[int]) -> str:
        """What the error says of a batch's rows; a trainer that knows the clips names those."""
        return f"rows {', '.join(map(str, rows))}"

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **options: Any
    ) -> torch.Tensor:
        rows = inputs.pop("row_index", None)
        loss = super().training_step(model, inputs, *args, **options)
        self._unread.append((self.state.global_step + 1, loss, rows))
        if loss.device.type == "cpu" or len(self._unread) >= STEPS_A_READ:
            self.require_finite_losses()
        return loss

    def require_finite_losses(self) -> None:
        """Raises `NonFiniteLossError` for the first loss since the last call that is not finite."""
        unread, self._unread = self._unread, []
        if not unread:
            return
        finite = torch.stack([loss for _, loss, _ in unread]).isfinite().tolist()
        for good, (step, loss, rows) in zip(finite, unread, strict=True):
            if not good:
                raise self._error(f"the loss is {loss.item()}", step, rows)
        self._last_rows = unread[-1][2]

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        self.require_finite_losses()
        if not _has_finite_weights(self.model):
            raise self._error("the weights are not finite", self.state.global_step, self._last_rows)
        super()._save_checkpoint(model, trial)

    def _error(self, what: str, step: int, rows: torch.Tensor | None) -> NonFiniteLossError:
        batch = f" on the batch of {self.describe_rows(rows.tolist())}" if rows is not None else ""
        return NonFiniteLossError(
            f"{what} at step {step}{batch}: training stops and the checkpoints written before stay as they are; "
            "look at these rows, or lower the learning rate, and run again"
        )


def _has_finite_weights(model: torch.nn.Module) -> bool:
    """One read from the device for all trained weights (of this process's shards)."""
    trained = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
    local = [p.to_local() if isinstance(p, DTensor) else p for p in trained]
    return bool(torch.stack([p.isfinite().all() for p in local]).all())
