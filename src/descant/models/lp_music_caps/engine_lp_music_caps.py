"""Continuous batching on a CPU or a GPU, by packed weights that are kept beside their model.

A search runs over a stream of questions, and a finished one gives its slot to the next. On a GPU its steps work on a
cache of fixed shapes, are recorded as CUDA graphs and replayed.
"""

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from transformers import BartForConditionalGeneration
from transformers.activations import GELUActivation
from transformers.models.bart import modeling_bart as bart
from transformers.utils import logging

from .decoder_cache_lp_music_caps import DecoderCache, StaticCache
from .packed_bart_lp_music_caps import FastDecoder, FastEncoder, computes_correctly, encoding_tier
from .search_lp_music_caps import AnswerSettings, BeamSearch, GreedySearch, NotCovered, SamplingSearch

logger = logging.get_logger(__name__)

Encoded = tuple[int, torch.Tensor]  # a question's position in its stream, its encoder states (length, d_model)
Search = BeamSearch | GreedySearch | SamplingSearch
Answer = tuple[int, list[int], float]  # position in the stream, tokens, length-normalised log probability

FEWEST_TOKENS = 32  # tokens of an answer that a recorded step looks at, at least
REPLAYS_BEFORE_RECORDING = 3  # recording takes as long as many steps, and the end of a stream needs many shapes
CACHE_BYTES = 4e9  # of keys and values of self-attention
# Layers that can be packed.
KINDS = {
    nn.Linear, nn.LayerNorm, nn.ModuleList, GELUActivation, bart.BartAttention, bart.BartEncoder, bart.BartDecoder,
    bart.BartEncoderLayer, bart.BartDecoderLayer, bart.BartLearnedPositionalEmbedding, bart.BartScaledWordEmbedding,
}  # fmt: skip


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


def check_packable(model: BartForConditionalGeneration, tier: str = "fp32") -> None:
    """Raise NotCovered unless this is a plain float32 model on a CPU or a GPU, ready to answer.

    On a CPU, the layers of the tier must also work with this version of torch.
    """
    parts = [*model.model.encoder.modules(), *model.model.decoder.modules(), model.lm_head]
    weights = [weight for part in parts for weight in part.parameters(recurse=False)]
    devices = {str(weight.device) for weight in weights}
    dtypes = {str(weight.dtype) for weight in weights} - {"torch.float32"}
    others = {type(part).__name__ for part in parts if type(part) not in KINDS}
    others |= {type(weight).__name__ for weight in weights if type(weight) is not nn.Parameter}
    known = model.device.type in ("cpu", "cuda")
    reasons = {
        f"layers of type {', '.join(sorted(others))}": bool(others),
        f"weights on {', '.join(sorted(devices))}": len(devices) > 1 or not known,
        f"weights of {', '.join(sorted(dtypes))}": bool(dtypes),
        "training mode": any(part.training for part in parts),
        "hooks on layers": any(map(is_hooked, parts)),
        "a forward that was replaced": is_replaced(model),
        "a bias of the vocabulary head": getattr(model.lm_head, "bias", None) is not None,
        "autocast": known and torch.is_autocast_enabled(model.device.type),
        "a torch without oneDNN": model.device.type == "cpu" and not torch.backends.mkldnn.is_available(),
    }
    for reason, holds in reasons.items():
        if holds:
            raise NotCovered(reason)
    tiers = {tier, encoding_tier(tier, model.device)}
    if model.device.type == "cpu" and not all(map(computes_correctly, tiers)):
        raise NotCovered(f"the oneDNN of torch {torch.__version__} (its operators are not those that were tested)")


def is_hooked(part: nn.Module) -> bool:
    """Return whether anything but the part's own `forward` changes what comes out of it."""
    hooks = [*part._forward_hooks.values(), *part._forward_pre_hooks.values()]
    # transformers' own, once it was asked for hidden states, stay where they are and do nothing.
    theirs = "transformers.utils.output_capturing"
    return "forward" in vars(part) or any(getattr(hook, "__module__", None) != theirs for hook in hooks)


def is_replaced(model: nn.Module) -> bool:
    """Return whether calls of the model's `forward` are watched or changed, as an exporter or a compiler does.

    Not counted: accelerate's wrapper for mixed precision, which training leaves on the model that it validates.
    """
    forward = vars(model).get("forward")
    own = forward is None or getattr(forward, "__func__", None) is type(model).forward
    return not own and "_original_forward" not in vars(model)


class PackedModel:
    """A model's packed encoder, and its decoders, which are packed at their first use."""

    def __init__(self, model: BartForConditionalGeneration, tier: str, vocabulary: Sequence[int] | None) -> None:
        self.reference = weakref.ref(model)
        self.on_cpu = model.device.type == "cpu"
        self.tier = tier
        self.vocabulary = None if vocabulary is None else torch.tensor(vocabulary, device=model.device)
        self.encoder = FastEncoder(model, tier)
        self.decoders: dict[int | None, FastDecoder] = {}
        self.idle: tuple[AnswerSettings, StaticEngine] | None = None

    def engine(
        self,
        settings: AnswerSettings,
        slots: int,
        on_token: Callable[[torch.Tensor], None] | None = None,
        refilled: bool = False,
    ) -> AnswerEngine:
        """Return an engine that answers up to `slots` questions at once.

        on_token: with one question and one beam, receives each new token.
        refilled: whether there are more questions than slots, so that mostly all slots are in use.
        """
        if not self.on_cpu:
            return self._static_engine(settings, slots, on_token)
        rows = slots * settings.num_beams
        if self.tier != "fp32" or rows == 1 or not (slots == 1 or refilled):
            return AnswerEngine(self.decoder(), settings, slots, on_token)
        full = self.decoder(rows)
        return AnswerEngine(full if slots == 1 else self.decoder(), settings, slots, on_token, full)

    def decoder(self, rows: int | None = None) -> FastDecoder:
        """Return the decoder for any number of hypotheses a step, or the faster one for always `rows` of them.

        Two are kept: those for any number, and for the number that was asked for last.
        """
        if rows not in self.decoders:
            model = self.reference()
            if model is None:
                raise RuntimeError("the model was deleted while its packed weights were in use")
            self.decoders = {count: decoder for count, decoder in self.decoders.items() if count is None}
            self.decoders[rows] = FastDecoder(model, self.tier, self.vocabulary, rows)
        return self.decoders[rows]

    @torch.inference_mode(False)  # or the engine could not be used outside of that mode
    def _static_engine(
        self, settings: AnswerSettings, slots: int, on_token: Callable[[torch.Tensor], None] | None
    ) -> StaticEngine:
        """Return an engine for a GPU: the last one, with what it has recorded, if it fits and is free."""
        if settings.do_sample:  # a draw takes its numbers for so many questions, and stores which are done
            return StaticEngine(self.decoder(), settings, slots, on_token)
        slots = min(round_up(slots, 1), slots_that_fit(self.decoder(), settings))
        known, engine = self.idle or (None, None)
        fits = engine is not None and known == settings and engine.slots >= slots
        if engine is None or not (fits and engine.in_use.acquire(blocking=False)):
            self.idle = engine = None  # freed before the next one is built
            engine = StaticEngine(self.decoder(), settings, slots)
            engine.in_use.acquire()
            self.idle = settings, engine
        engine.on_token = on_token
        return engine


# Beside the models, not in them: packed weights can neither be copied nor saved.
_packed: "weakref.WeakKeyDictionary[nn.Module, tuple[tuple, PackedModel | None]]" = weakref.WeakKeyDictionary()


def packed_model(
    model: BartForConditionalGeneration, tier: str = "fp32", vocabulary: Sequence[int] | None = None
) -> PackedModel:
    """Return the packed weights of a model: the last ones if the model's have not changed since, else new ones.

    vocabulary: the token ids, in order, that answers may have. Raises NotCovered where the model is not one that can
    be packed.
    """
    check_packable(model, tier)
    key = tier, None if vocabulary is None else tuple(vocabulary), mark_weights(model)
    known, packed = _packed.get(model, (None, None))
    if packed is None or known != key:
        packed = None
        forget_packed(model)  # before the next ones take their memory
        packed = PackedModel(model, tier, vocabulary)
        _packed[model] = key, packed
    return packed


def forget_packed(model: BartForConditionalGeneration) -> None:
    """Drop a model's packed weights."""
    _packed.pop(model, None)


def mark_weights(model: BartForConditionalGeneration) -> tuple:
    """Return values that change with the packed weights: addresses, versions and samples of the weights themselves.

    An optimizer raises a tensor's version, but code that writes through `.data` does not: hence the samples. A change
    of few entries through `.data` is not detected: call `forget_packed` after it.
    """
    coders = model.model.encoder, model.model.decoder
    parts = [(coder.layers, coder.layernorm_embedding, coder.embed_positions) for coder in coders]
    weights = [weight for group in parts for part in group for weight in part.parameters()]
    weights += [model.model.decoder.embed_tokens.weight, model.lm_head.weight, model.final_logits_bias]
    values = [weight.detach().flatten()[:: max(1, weight.numel() // 16)] for weight in weights]
    versions = tuple((weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights)
    return versions, torch.cat(values).cpu().numpy().tobytes()
