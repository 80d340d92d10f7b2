"""Continuous batching: a search over a stream of questions, in which a finished one gives its slot to the next.

Also the stream itself: pairs of clip and question, encoded in groups of like length.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from .decoder_cache_lp_music_caps import DecoderCache
from .generation_settings_lp_music_caps import AnswerSettings
from .packed_bart_lp_music_caps import FastDecoder, FastEncoder, lower_precision
from .search_lp_music_caps import BeamSearch, GreedySearch, SamplingSearch

Encoded = tuple[int, torch.Tensor]  # a question's position in its stream, its encoder states (length, d_model)
Search = BeamSearch | GreedySearch | SamplingSearch
Answer = tuple[int, list[int], float]  # position in the stream, tokens, length-normalised log probability
Pair = tuple[Hashable, torch.Tensor | np.ndarray, list[int] | None]  # clip key, input_features, prompt ids

GROUP = 16  # questions encoded together: enough rows for the processor's full speed
CLIPS_KEPT = 256  # embedded clips remembered, at 100 KB each


class AnswerEngine:
    """Answers up to `slots` questions at a time.

    full: a decoder that is faster while all slots are in use; without it, `decoder` takes those steps too.
    """

    cache: DecoderCache

    def __init__(
        self,
        decoder: FastDecoder,
        settings: AnswerSettings,
        slots: int,
        on_token: Callable[[torch.Tensor], None] | None = None,
        full: FastDecoder | None = None,
    ) -> None:
        self.decoder = decoder
        self.full = full or decoder
        self.slots = slots
        if decoder.vocabulary is not None:
            settings = settings.numbered(decoder.vocabulary.tolist())
        self.settings = settings
        self.search, self.cache = self._new_state()
        self.on_token = on_token
        self.questions: list[int] = []  # slot → position in the stream; the slots in use are the first ones
        self.fresh: list[int] = []  # slots that have not decoded their prefix yet

    def _new_state(self) -> tuple[Search, DecoderCache]:
        """Build what a step changes, for `slots` questions."""
        search = new_search(self.settings, self.slots, self.settings.first_tokens, self.decoder)
        return search, self.decoder.new_cache(self.slots, search.beams)

    def run(self, waiting: Iterator[Encoded]) -> Iterator[Answer]:
        """Answer all questions of an iterator, in the order in which the answers are done."""
        while len(self.questions) < self.slots and self._open(len(self.questions), waiting):
            pass
        while self.questions:
            for slot in sorted(self._step(), reverse=True):  # the last first, so that no slot moves before its turn
                tokens, score = self.search.answer(slot)
                yield self.questions[slot], self._ids(tokens), score
                if not self._open(slot, waiting):
                    self._leave(slot)

    def _open(self, slot: int, waiting: Iterator[Encoded]) -> bool:
        """Give a slot to the next question, if there is one."""
        encoded = next(waiting, None)
        if encoded is None:
            return False
        question, states = encoded
        self.questions[slot : slot + 1] = [question]
        self.fresh.append(slot)
        self.decoder.open_slot(self.cache, slot, states)
        self.search.open(slot)
        return True

    def _leave(self, slot: int) -> None:
        """Give a slot to the last question in flight, so that the slots in use stay the first ones."""
        last = len(self.questions) - 1
        question = self.questions.pop()
        if slot != last:
            self.questions[slot] = question
            self.fresh = [slot if fresh == last else fresh for fresh in self.fresh]
            self.cache.move(last, slot)
            self.search.move(last, slot)

    def _step(self) -> list[int]:
        """Decode one token of every hypothesis; returns the slots that are done."""
        active = len(self.questions)
        new = self.cache.add_nodes(active)
        tokens, positions = self._inputs(active, new.start)
        decoder = self.full if active == self.slots else self.decoder
        hidden = decoder.step(self.cache, tokens, positions)
        self._end_prefix(hidden, new.start)
        parents, done = self.search.advance(decoder.head(hidden), active)
        if parents is not None:
            self.cache.reorder(parents)
        self._report_newest(active)
        return done.nonzero()[:, 0].tolist()

    def _report_newest(self, active: int) -> None:
        if self.on_token is not None:
            newest = self.search.sequences[:active, 0].gather(1, self.search.lengths[:active, None] - 1)[:, 0]
            self.on_token(torch.tensor(self._ids(newest.tolist())))

    def _ids(self, tokens: list[int]) -> list[int]:
        """Return the tokenizer's ids of tokens, which a smaller vocabulary numbers anew."""
        return tokens if self.decoder.vocabulary is None else self.decoder.vocabulary[tokens].tolist()

    def _inputs(self, active: int, first_column: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the newest token of each hypothesis and its position, (active, beams) each.

        A fresh question has only one hypothesis yet, the prefix: its beams decode one token of the prefix each.
        """
        positions = (self.search.lengths[:active, None] - 1).repeat(1, self.search.beams)
        tokens = self.search.sequences[:active].gather(2, positions[:, :, None])[:, :, 0]
        for index, token in enumerate(self.search.prefix if self.fresh else ()):
            tokens[self.fresh, index] = token
            positions[self.fresh, index] = index
            self.cache.mask[self.fresh, index, first_column : first_column + index] = 0
        return tokens, positions

    def _end_prefix(self, hidden: torch.Tensor, first_column: int) -> None:
        """Give all beams of the fresh questions the prefix as history, and the first beam its last token's states."""
        if not self.fresh:
            return
        length = len(self.search.prefix)
        rows = hidden.view(-1, self.search.beams, hidden.shape[1])
        rows[self.fresh, 0] = rows[self.fresh, length - 1]
        self.cache.mask[self.fresh, :, first_column:] = float("-inf")
        self.cache.mask[self.fresh, :, first_column : first_column + length] = 0
        self.fresh.clear()


def new_search(settings: AnswerSettings, slots: int, prefix: list[int], decoder: FastDecoder) -> Search:
    """Build the search that the settings ask for; prefix: what beams begin with."""
    if settings.do_sample:
        return SamplingSearch(settings, slots, decoder.vocab_size, decoder.device)
    if settings.num_beams > 1:
        return BeamSearch(settings, slots, prefix, decoder.device)
    return GreedySearch(settings, slots, decoder.device)


class QuestionStream:
    """Iterates over (position in the stream, encoder states (length, d_model)); reads `ahead` pairs at a time."""

    def __init__(
        self,
        model: PreTrainedModel,
        pairs: Iterable[Pair],
        ahead: int,
        tier: str = "fp32",
        encoder: FastEncoder | None = None,
    ) -> None:
        self.model = model
        self.tier = tier
        self.encoder = encoder  # the model's own without it
        self.pairs = enumerate(pairs)
        self.ahead = ahead
        self.clips: OrderedDict[Hashable, torch.Tensor] = OrderedDict()

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor]]:
        while window := list(islice(self.pairs, self.ahead)):
            window.sort(key=lambda item: len(item[1][2] or ()))
            for start in range(0, len(window), GROUP):
                yield from self._encode(window[start : start + GROUP])

    def _encode(self, group: list[tuple[int, Pair]]) -> Iterator[tuple[int, torch.Tensor]]:
        device = self.model.device
        prompts = [torch.tensor(ids or [], dtype=torch.long) for _, (_, _, ids) in group]
        masks = [torch.ones_like(ids) for ids in prompts]
        with lower_precision(self.tier, device):
            outputs, mask = self.model.encode(
                audio_embeds=self._embed([pair for _, pair in group]),
                prompt_input_ids=pad_sequence(prompts, batch_first=True).to(device),
                prompt_attention_mask=pad_sequence(masks, batch_first=True).to(device),
                encoder=self.encoder,
            )
        lengths = mask.sum(dim=1).tolist()
        hidden = outputs.last_hidden_state.to(self.model.dtype)
        for (position, _), states, length in zip(group, hidden, lengths, strict=True):
            yield position, states[:length]

    def _embed(self, pairs: list[Pair]) -> torch.Tensor:
        """Return the clips' embeddings (pairs, positions, d_model), from memory where they were computed before."""
        new = {key: torch.as_tensor(features) for key, features, _ in pairs if key not in self.clips}
        if new:
            embeds = self.model.get_audio_features(torch.stack(list(new.values())).to(self.model.device))
            # Copies: a view would keep all clips of its batch in memory.
            self.clips.update((key, embed.clone()) for key, embed in zip(new, embeds, strict=True))
        for key, _, _ in pairs:
            self.clips.move_to_end(key)
        embeds = torch.stack([self.clips[key] for key, _, _ in pairs])
        while len(self.clips) > CLIPS_KEPT:
            self.clips.popitem(last=False)
        return embeds
