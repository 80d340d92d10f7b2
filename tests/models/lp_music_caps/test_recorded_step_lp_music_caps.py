"""Tests of recorded steps: with a stand-in for CUDA's graphs where there is no GPU, and with those where there is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from answering_model import AnsweringModel

from descant.models.lp_music_caps.packed_models_lp_music_caps import packed_model
from descant.models.lp_music_caps.recorded_step_lp_music_caps import RecordedStep

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Stub:
    """Stands in for CUDA's graphs: what is recorded is not done then, but in each replay."""

    def __init__(self, state: torch.Tensor, replay: Callable[[], None], fails: bool) -> None:
        self.state, self.replay, self.fails = state, replay, fails

    @contextmanager
    def record(self, graph: "Stub", **how) -> Iterator[None]:
        before = self.state.clone()
        yield
        self.state.copy_(before)
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")


def record(
    monkeypatch: pytest.MonkeyPatch, state: torch.Tensor, step: Callable, replay: Callable, fails: bool = False
) -> RecordedStep:
    stub = Stub(state, replay, fails)
    monkeypatch.setattr("torch.cuda.CUDAGraph", lambda: stub)
    monkeypatch.setattr("torch.cuda.graph", stub.record)
    monkeypatch.setattr("torch.cuda.stream", nullcontext)
    monkeypatch.setattr("torch.cuda.current_stream", lambda: None)
    monkeypatch.setattr(f"{RecordedStep.__module__}.take_aside", lambda step, stream: step())
    return RecordedStep(step, [state], stream=None)


def test_a_step_is_taken_once_by_recording_and_once_by_each_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.zeros(3)
    recorded = record(monkeypatch, state, lambda: state.add_(1), replay=lambda: state.add_(1))
    assert (state.tolist(), recorded.faithful) == ([1, 1, 1], True)
    recorded.graph.replay()
    assert state.tolist() == [2, 2, 2]


@pytest.mark.parametrize("added", [0, 5])
def test_a_recording_that_does_something_else_is_found_out(monkeypatch: pytest.MonkeyPatch, added: int) -> None:
    state = torch.zeros(3)
    recorded = record(monkeypatch, state, lambda: state.add_(1), replay=lambda: state.add_(added))
    assert (state.tolist(), recorded.faithful) == ([1, 1, 1], False)


def test_a_step_that_cannot_be_recorded_is_taken_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.zeros(3)
    recorded = record(monkeypatch, state, lambda: state.add_(1), replay=lambda: state.add_(1), fails=True)
    assert (state.tolist(), recorded.faithful) == ([1, 1, 1], False)


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
        if "do_sample" not in settings:
            _, engine = packed_model(model).idle
            assert engine.records and engine.recorded
    finally:
        model.to("cpu")
