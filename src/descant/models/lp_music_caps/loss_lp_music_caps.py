"""Label-smoothed cross entropy from the decoder's states, without ever holding the logits of a whole batch."""

from typing import Any

import torch

IGNORED = -100
ROWS_AT_ONCE = 512


def linear_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Sum over positions of `(1 − ε)·NLL + ε·mean over the vocabulary of −log p`, in float32.

    Args:
        hidden: states (positions, d_model) that the head turns into logits.
        weight, bias: the head's, (vocabulary, d_model) and (1, vocabulary).
        labels: token ids (positions,); those of −100 do not count.
        smoothing: ε. The form is that of Szegedy et al. 2016 (arXiv 1512.00567, section 7).
    """
    if hidden.device.type == "cpu":  # on an accelerator, choosing positions would make the host wait for it
        counted = labels.ne(IGNORED)
        hidden, labels = hidden[counted], labels[counted]
    return _apply(hidden, weight, bias, labels, smoothing)


@torch.compiler.disable
def _apply(*inputs: Any) -> torch.Tensor:
    return _LinearCrossEntropy.apply(*inputs)


class _LinearCrossEntropy(torch.autograd.Function):
    """Loss and gradients in one pass over slices of the positions.

    A slice's logits are laid out (vocabulary, positions): with BART's odd vocabulary, rows of logits would start at
    addresses for which matrix products are half as fast.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        labels: torch.Tensor,
        smoothing: float,
    ) -> torch.Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        head = _Head(weight.to(dtype), bias, smoothing)
        states_grad = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        weight_grad = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        total = hidden.new_zeros((), dtype=torch.float32)
        with torch.autocast(device, enabled=False):
            for start in range(0, len(hidden), ROWS_AT_ONCE):
                part = slice(start, start + ROWS_AT_ONCE)
                total += head.loss(hidden[part].to(dtype), labels[part])
                if states_grad is not None:
                    states_grad[part] = head.states_gradient()
                if weight_grad is not None:
                    head.add_weight_gradient(weight_grad)
        ctx.save_for_backward(states_grad, None if weight_grad is None else weight_grad.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # In place, so that no second copy of the head is made; torch then refuses a second pass over the same graph.
        states, weight = (None if one is None else one.mul_(grad) for one in ctx.saved_tensors)
        return states, weight, None, None, None


class _Head:
    """The head on one slice of positions at a time.

    The gradient by the logits is `softmax − (1 − ε)·onehot − ε / vocabulary`. Its last term is the same everywhere, so
    it is taken off the products, as the softmax's division is, and not off each of the logits.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, smoothing: float) -> None:
        self.weight, self.bias, self.smoothing = weight, bias.float().t(), smoothing
        self.mean_weight, self.mean_bias = weight.float().mean(dim=0), bias.float().mean()

    def loss(self, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Sum over `states` (positions, d_model); what the gradients need is kept for the two calls that follow."""
        counts = labels.ne(IGNORED)
        target = labels.clamp(min=0)[None]
        logits = (self.weight @ states.t()).float().add_(self.bias)  # (vocabulary, positions)
        peak = logits.amax(dim=0)
        logits.sub_(peak)
        right = logits.gather(0, target)[0]
        mean = states.float() @ self.mean_weight + self.mean_bias - peak
        powers = logits.exp_()
        norm = powers.sum(dim=0)
        losses = norm.log() - (1 - self.smoothing) * right - self.smoothing * mean
        powers.scatter_add_(0, target, (self.smoothing - 1) * norm[None])
        self.states, self.powers = states, powers.to(states.dtype)
        self.scale = (counts / norm)[:, None]  # of what is left of each position's softmax
        self.share = counts[:, None] * (self.smoothing / len(self.weight))
        return (losses * counts).sum()

    def states_gradient(self) -> torch.Tensor:
        spread = self.share * self.mean_weight * len(self.weight)
        return (self.powers.t() @ self.weight).float() * self.scale - spread

    def add_weight_gradient(self, total: torch.Tensor) -> None:
        scaled = (self.states.float() * self.scale).to(self.states.dtype)
        if scaled.dtype == total.dtype:
            total.addmm_(self.powers, scaled)
        else:
            total.add_(self.powers @ scaled)
        total.sub_((self.share * self.states.float()).sum(dim=0))


__all__ = ["linear_cross_entropy"]
