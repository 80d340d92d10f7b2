"""Tests of recorded steps: with a stand-in for CUDA's graphs where there is no GPU, and with those where there is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from answering_model import AnsweringModel

from descant.models.lp_music_caps.recorded_step_lp_music_caps import RecordedStep

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Stub:
    """Stands in for CUDA's graphs: what is recorded is not done then, but in each replay."""

    def __init__(self, state: torch.Tensor, replay: Callable[[], None]) -> None:
        self.state, self.replay, self.streams = state, replay, 0

    @contextmanager
    def graph(self, graph: "Stub", pool: None) -> Iterator[None]:
        before = self.state.clone()
        yield
        self.state.copy_(before)

    def aside(self, step: Callable[[], None]) -> None:
        step()


def record(monkeypatch: pytest.MonkeyPatch, state: torch.Tensor, step: Callable, replay: Callable) -> RecordedStep:
    stub = Stub(state, replay)
    monkeypatch.setattr("torch.cuda.CUDAGraph", lambda: stub)
    monkeypatch.setattr("torch.cuda.graph", stub.graph)
    monkeypatch.setattr("descant.models.lp_music_caps.recorded_step_lp_music_caps.take_aside", stub.aside)
    return RecordedStep(step, [state])


def test_a_step_is_taken_once_by_recording_and_once_by_each_play(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.zeros(3)
    recorded = record(monkeypatch, state, lambda: state.add_(1), replay=lambda: state.add_(1))
    assert state.tolist() == [1, 1, 1]
    recorded.play()
    assert state.tolist() == [2, 2, 2]


def test_a_recording_that_does_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.zeros(3)
    recorded = record(monkeypatch, state, lambda: state.add_(1), replay=lambda: state.add_(5))
    assert state.tolist() == [1, 1, 1]
    recorded.play()
    assert state.tolist() == [2, 2, 2]


@needs_gpu
@pytest.mark.parametrize(
    "settings", [{}, {"num_beams": 1}, {"num_beams": 10}, {"num_beams": 1, "do_sample": True, "top_p": 0.9}], ids=str
)
def test_a_gpu_gives_the_tokens_of_transformers(taught: AnsweringModel, settings: dict) -> None:
    model = taught.model.to("cuda")
    try:
        batch = {name: value.to("cuda") for name, value in taught.ask(100, seed=2100).items()}
        torch.manual_seed(0)
        expected = model.generate(**batch, **settings, fast=False)
        for _ in range(2):  # the second time from recordings
            torch.manual_seed(0)
            assert torch.equal(model.generate(**batch, **settings), expected)
    finally:
        model.to("cpu")
