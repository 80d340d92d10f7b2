"""Answers on a GPU: decoding steps over a cache of fixed shapes, recorded as CUDA graphs and replayed."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers.utils import logging

from .decoder_cache_lp_music_caps import StaticCache
from .engine_lp_music_caps import Answer, AnswerEngine, Encoded, Search, new_search
from .generation_settings_lp_music_caps import AnswerSettings
from .packed_bart_lp_music_caps import FastDecoder

logger = logging.get_logger(__name__)

FEWEST_TOKENS = 32  # tokens of an answer that a recorded step looks at, at least
REPLAYS_BEFORE_RECORDING = 3  # recording takes as long as many steps, and the end of a stream needs many shapes
CACHE_BYTES = 4e9  # of keys and values of self-attention


class RecordedStep:
    """A CUDA graph of a function that changes only tensors which stay at their addresses.

    Building it takes the step once. faithful: whether the graph changes `states` as the function itself does; where
    not, a warning is logged.
    stream, pool: may be shared by recordings that never run concurrently; a step's intermediates do not outlive it.
    """

    def __init__(
        self,
        step: Callable[[], None],
        states: list[torch.Tensor],
        stream: torch.cuda.Stream,
        pool: Any = None,  # what torch.cuda.graph_pool_handle returns
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

    def _record(self, step: Callable[[], None], stream: torch.cuda.Stream, pool: Any) -> bool:
        try:
            graph = torch.cuda.graph(self.graph, pool=pool, stream=stream, capture_error_mode="thread_local")
            # The outer context leaves the stream again where the inner one fails to.
            with torch.cuda.stream(torch.cuda.current_stream()), graph:
                step()
        except RuntimeError as error:
            logger.warning_once(f"recording a step failed: {error}")
            return False
        return True


def take_aside(step: Callable[[], None], stream: torch.cuda.Stream) -> None:
    """Take a step on the stream that will record it: what libraries do at first use cannot be recorded."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)


def copies(states: list[torch.Tensor]) -> list[torch.Tensor]:
    """Copy tensors."""
    return [state.clone() for state in states]


def restore(states: list[torch.Tensor], values: list[torch.Tensor]) -> None:
    """Write values back into tensors, at their addresses."""
    for state, value in zip(states, values, strict=True):
        state.copy_(value)


def agree(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    """Return whether two states are the same, scores up to rounding."""
    if not actual.is_floating_point():
        return torch.equal(actual, expected)
    return torch.allclose(actual, expected, rtol=1e-4, atol=1e-4, equal_nan=True)


class StaticEngine(AnswerEngine):
    """AnswerEngine for a GPU: launching a kernel takes longer than running it, so a whole step is launched as a graph.

    A step is recorded for each number of questions, rounded up to a power of two, and each number of tokens that the
    longest answer has, likewise. The host waits once a step, to see which questions are done. Slots without a
    question are computed along; what comes out there is never read.
    """

    cache: StaticCache  # type: ignore[assignment]  # of fixed shapes, with the methods that this class uses

    def __init__(
        self,
        decoder: FastDecoder,
        settings: AnswerSettings,
        slots: int,
        on_token: Callable[[torch.Tensor], None] | None = None,
    ) -> None:
        super().__init__(decoder, settings, slots, on_token)
        self.in_use = threading.Lock()
        self.done = torch.zeros(slots, dtype=torch.bool, device=decoder.device)
        self.steps = [0] * slots  # tokens chosen so far
        # A recording would give the same random numbers each time.
        self.records = decoder.device.type == "cuda" and not settings.do_sample
        # One stream an engine: destroying a graph frees memory that others recorded on its stream still use.
        self.stream = torch.cuda.Stream(decoder.device) if self.records else None
        self.pool = torch.cuda.graph_pool_handle() if self.records else None
        self.recorded: dict[tuple[int, int, int], RecordedStep] = {}
        self.steps_taken: Counter[tuple[int, int, int]] = Counter()  # steps without a recording, by shape

    def run(self, waiting: Iterator[Encoded]) -> Iterator[Answer]:
        """Answer all questions of an iterator; the engine is free again when that is over, or is given up."""
        self.in_use.acquire(blocking=False)
        try:
            yield from super().run(waiting)
        finally:
            self.questions.clear()
            self.fresh.clear()
            self.on_token = None
            self.in_use.release()

    def _new_state(self) -> tuple[Search, StaticCache]:  # type: ignore[override]
        # Beams begin with the start token alone: a step of its own for a forced one is cheaper than another recording.
        search = new_search(self.settings, self.slots, self.settings.first_tokens[:1], self.decoder)
        return search, self.decoder.new_static_cache(self.slots, search.beams, self.settings.max_length)

    def _open(self, slot: int, waiting: Iterator[Encoded]) -> bool:
        self.steps[slot] = 0
        return super()._open(slot, waiting)

    def _leave(self, slot: int) -> None:
        self.steps[slot] = self.steps[len(self.questions) - 1]
        super()._leave(slot)

    def _step(self) -> list[int]:
        """Decode one token of every hypothesis; returns the slots that are done."""
        count = len(self.questions)
        self.fresh.clear()  # the first step is like the others
        self.steps[:count] = [steps + 1 for steps in self.steps[:count]]
        active = min(round_up(count, 1), self.slots)
        length = min(round_up(max(self.steps[:count]), FEWEST_TOKENS), self.settings.max_length)
        self.cache.columns = length * self.search.beams
        self._run(active)
        self._report_newest(count)
        return [slot for slot, done in enumerate(self.done[:count].tolist()) if done]

    def _run(self, active: int) -> None:
        """Replay a step's recording, if there is one; a shape that comes often is recorded."""
        shape = active, self.cache.columns, self.cache.cross_mask.shape[2]
        if self.records and shape in self.recorded:
            self.recorded[shape].graph.replay()
        elif self.stream is not None and self.records and self.steps_taken[shape] >= REPLAYS_BEFORE_RECORDING:
            self._record(active, shape, self.stream)
        else:
            self.steps_taken[shape] += 1
            self._advance(active)

    def _record(self, active: int, shape: tuple[int, int, int], stream: torch.cuda.Stream) -> None:
        states = [*self.search.states, self.cache.mask, self.done]
        with torch.cuda.device(self.decoder.device):
            recorded = RecordedStep(lambda: self._advance(active), states, stream, self.pool)
        self.recorded[shape] = recorded
        self.records = recorded.faithful

    def _advance(self, active: int) -> None:
        """Take a step of the first `active` slots, without waiting for the device or allocating lasting memory."""
        lengths = self.search.lengths.clamp_(max=self.settings.max_length - 1)  # of slots without a question
        positions = (lengths[:active, None] - 1).expand(-1, self.search.beams)
        tokens = self.search.sequences[:active].gather(2, positions[:, :, None])[:, :, 0]
        self.cache.begin(positions)
        hidden = self.decoder.step(self.cache, tokens, positions)
        parents, done = self.search.advance(self.decoder.head(hidden), active)
        if parents is not None:
            self.cache.reorder(parents)
        self.done[:active] = done


def round_up(number: int, least: int) -> int:
    """Round a number up to the next of least, 2 · least, 4 · least and so on."""
    while least < number:
        least *= 2
    return least


def slots_that_fit(decoder: FastDecoder, settings: AnswerSettings) -> int:
    """Return how many questions' keys and values fit into CACHE_BYTES."""
    width = decoder.heads * decoder.head_dim
    numbers = 2 * len(decoder.layers) * width * settings.num_beams * settings.max_length
    return max(1, int(CACHE_BYTES / (numbers * decoder.tokens.weight.element_size())))
