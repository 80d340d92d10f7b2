"""Runs the search in steps that are always the same, so that a GPU plays them from a recording."""

from collections.abc import Callable

import torch

from .answer_engine_lp_music_caps import AnswerEngine, Search, new_search
from .fast_decoder_lp_music_caps import FastDecoder
from .generation_settings_lp_music_caps import AnswerSettings
from .recorded_step_lp_music_caps import RecordedStep
from .static_cache_lp_music_caps import StaticCache

FEWEST_PLACES = 32


class StaticEngine(AnswerEngine):
    """AnswerEngine for a GPU: to start a kernel takes longer than to run it, so a whole step is started at once.

    A step is recorded for each number of questions, rounded up to a power of two, and each number of places that the
    longest answer needs, likewise. The host waits once a step, to see which questions are done. Slots without a
    question are computed along; what comes out there is never read.
    """

    def __init__(
        self,
        decoder: FastDecoder,
        settings: AnswerSettings,
        slots: int,
        on_token: Callable[[torch.Tensor], None] | None = None,
    ) -> None:
        super().__init__(decoder, settings, slots, on_token)
        self.done = torch.zeros(slots, dtype=torch.bool, device=decoder.device)
        self.steps: dict[int, int] = {}  # question → tokens chosen so far
        # A recording would give the same random numbers each time.
        self.records = decoder.device.type == "cuda" and not settings.do_sample
        self.pool = torch.cuda.graph_pool_handle() if self.records else None
        self.recorded: dict[tuple[int, int, int], RecordedStep] = {}

    def _new_state(self) -> tuple[Search, StaticCache]:
        # Beams begin with the start token alone: a step of its own for a forced one is cheaper than another recording.
        search = new_search(self.settings, self.slots, self.settings.first_tokens[:1], self.decoder)
        return search, self.decoder.new_static_cache(self.slots, search.beams, self.settings.max_length)

    def _leave(self, slot: int) -> None:
        del self.steps[self.questions[slot]]
        super()._leave(slot)

    def _step(self) -> list[int]:
        """Decode one token of every hypothesis; returns the slots that are done."""
        count = len(self.questions)
        self.fresh.clear()  # the first step is like the others
        for question in self.questions:
            self.steps[question] = self.steps.get(question, 0) + 1
        active = min(round_up(count, 1), self.slots)
        places = round_up(max(self.steps[question] for question in self.questions), FEWEST_PLACES)
        self.cache.columns = min(places, self.settings.max_length) * self.search.beams
        if self.records:
            self._play(active)
        else:
            self._advance(active)
        self._tell_newest(count)
        return [slot for slot, done in enumerate(self.done[:count].tolist()) if done]

    def _play(self, active: int) -> None:
        shape = active, self.cache.columns, self.cache.cross_mask.shape[2]
        if shape in self.recorded:
            self.recorded[shape].play()
        else:
            states = [*self.search.states, self.cache.mask, self.done]
            with torch.cuda.device(self.decoder.device):
                self.recorded[shape] = RecordedStep(lambda: self._advance(active), states, self.pool)

    def _advance(self, active: int) -> None:
        """One step of the first `active` slots, without waiting for the device and without new places of memory."""
        lengths = self.search.lengths.clamp_(max=self.settings.max_length - 1)  # of slots without a question
        places = (lengths[:active, None] - 1).expand(-1, self.search.beams)
        tokens = self.search.sequences[:active].gather(2, places[:, :, None])[:, :, 0]
        self.cache.begin(places)
        hidden = self.decoder.step(self.cache, tokens, places)
        parents, done = self.search.advance(self.decoder.head(hidden), active)
        if parents is not None:
            self.cache.reorder(parents)
        self.done[:active] = done


def round_up(number: int, least: int) -> int:
    """The next of least, 2 · least, 4 · least …"""
    while least < number:
        least *= 2
    return least
