"""A step of many small GPU kernels, recorded once and then started as one."""

from collections.abc import Callable

import torch
from transformers.utils import logging

logger = logging.get_logger(__name__)


class RecordedStep:
    """A CUDA graph of a function that changes only tensors which stay in their places.

    Building it takes the step once. `faithful` says whether the graph changes `states` as the function itself does;
    where not, a log line says so. stream and pool: of all recordings that are never played at the same time, since
    nothing that a step makes outlives it.
    """

    def __init__(
        self,
        step: Callable[[], None],
        states: list[torch.Tensor],
        stream: torch.cuda.Stream,
        pool: tuple[int, int] | None = None,
    ) -> None:
        before = copies(states)
        take_aside(step, stream)
        expected = copies(states)
        restore(states, before)
        self.graph = torch.cuda.CUDAGraph()  # kept even if it is of no use: its end frees what others work with
        self.faithful = self._record(step, stream, pool)
        if self.faithful:
            restore(states, before)  # changes something only if the step was taken instead of recorded
            self.graph.replay()
            self.faithful = all(agree(*pair) for pair in zip(states, expected, strict=True))
        if not self.faithful:
            logger.warning_once("a step cannot be recorded as it is on this GPU: answers take longer")
            restore(states, expected)

    def _record(self, step: Callable[[], None], stream: torch.cuda.Stream, pool: tuple[int, int] | None) -> bool:
        how = {"pool": pool, "stream": stream, "capture_error_mode": "thread_local"}
        try:
            # The outer context leaves the stream again where the inner one fails to.
            with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(self.graph, **how):
                step()
        except RuntimeError as error:
            logger.warning_once(f"recording a step failed: {error}")
            return False
        return True


def take_aside(step: Callable[[], None], stream: torch.cuda.Stream) -> None:
    """Take a step on the stream that will record it, as recording asks of the first time that libraries are used."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)


def copies(states: list[torch.Tensor]) -> list[torch.Tensor]:
    return [state.clone() for state in states]


def restore(states: list[torch.Tensor], values: list[torch.Tensor]) -> None:
    for state, value in zip(states, values, strict=True):
        state.copy_(value)


def agree(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether two states are the same, scores to rounding."""
    if not actual.is_floating_point():
        return torch.equal(actual, expected)
    return torch.allclose(actual, expected, rtol=1e-4, atol=1e-4, equal_nan=True)
