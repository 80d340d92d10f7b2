"""A step of many small GPU kernels, recorded once and then started as one."""

from collections.abc import Callable

import torch
from transformers.utils import logging

logger = logging.get_logger(__name__)


class RecordedStep:
    """A CUDA graph of a function that changes only tensors which stay in their places.

    Building it takes the step once. The recording is kept only if it changes `states` as the function itself does;
    otherwise a log line says so, and the function goes on being called. pool: memory that recordings may share of
    which no two are played at a time, since nothing that a step makes outlives it.
    """

    def __init__(
        self, step: Callable[[], None], states: list[torch.Tensor], pool: tuple[int, int] | None = None
    ) -> None:
        self.play = step
        before = copies(states)
        take_aside(step)
        expected = copies(states)
        restore(states, before)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            step()
        graph.replay()
        if all(agree(*pair) for pair in zip(states, expected, strict=True)):
            self.play = graph.replay
        else:
            logger.warning_once("the recorded step gives other results than the step itself: it is not used")
            restore(states, expected)


def take_aside(step: Callable[[], None]) -> None:
    """Take a step beside the current stream, as recording asks of the first time that libraries are used."""
    stream = torch.cuda.Stream()
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
