"""Beam search, greedy search and sampling with transformers' arithmetic, for questions at different lengths.

Their settings are read by transformers' own `generate`, and reduced to what is known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import transformers
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.generation import (
    EosTokenCriteria,
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    GenerationMode,
    LogitsProcessorList,
    MaxLengthCriteria,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.modeling_outputs import BaseModelOutput

BLOCK = 64  # the head's rows are padded to whole blocks, so that the best tokens are found from the blocks' maxima
RULES = (
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)
WARPERS = (TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)
MODES = (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE, GenerationMode.BEAM_SEARCH)
# Arguments of `generate` that name another way of decoding, begin answers in a way of their own, or bring objects
# whose settings cannot be read off their class.
OTHER_WAYS = (
    "assistant_model", "custom_generate", "negative_prompt_ids", "synced_gpus", "cache", "past_key_values",
    "decoder_input_ids", "input_ids", "logits_processor", "stopping_criteria", "tokenizer",
)  # fmt: skip

MINUS_INFINITY = float("-inf")
OUT = -1.0e9  # what transformers adds to a score to rule a hypothesis out
ROWS = 16  # whose log probabilities a CPU computes and reads at a time: those of all rows do not fit its cache


class NotCovered(Exception):
    """The fast search cannot do what is asked; the message names the setting that it does not cover."""


@dataclass(frozen=True)
class AnswerSettings:
    """What the fast search is to do; the names are those of GenerationConfig."""

    num_beams: int
    max_length: int
    min_length: int
    length_penalty: float
    early_stopping: bool | str
    no_repeat_ngram_size: int
    repetition_penalty: float
    forced_bos_token_id: int | None
    forced_eos_token_id: list[int] | None
    decoder_start_token_id: int
    eos_token_ids: list[int]
    pad_token_id: int
    do_sample: bool
    warpers: LogitsProcessorList = field(default_factory=LogitsProcessorList)

    @property
    def named_tokens(self) -> set[int]:
        """The token ids that the settings name."""
        return {*self.first_tokens, self.pad_token_id, *self.eos_token_ids, *(self.forced_eos_token_id or [])}

    @property
    def first_tokens(self) -> list[int]:
        """The tokens that every answer begins with, known without asking the model."""
        forced = [self.forced_bos_token_id] if self.forced_bos_token_id is not None else []
        return [self.decoder_start_token_id, *forced]

    def numbered(self, vocabulary: Sequence[int]) -> "AnswerSettings":
        """Return the same settings for tokens that are numbered by their indices in a vocabulary."""
        indices = {token: index for index, token in enumerate(vocabulary)}
        bos, eos = self.forced_bos_token_id, self.forced_eos_token_id
        return replace(
            self,
            decoder_start_token_id=indices[self.decoder_start_token_id],
            pad_token_id=indices[self.pad_token_id],
            eos_token_ids=[indices[token] for token in self.eos_token_ids],
            forced_bos_token_id=None if bos is None else indices[bos],
            forced_eos_token_id=None if eos is None else [indices[token] for token in eos],
        )


class Capture:
    """A decoding method that decodes nothing, and stores what `generate` has prepared for one."""

    def __call__(
        self,
        model: PreTrainedModel,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **inputs: Any,
    ) -> torch.Tensor:
        """Store the prepared arguments; returns the tokens unchanged."""
        self.input_ids = input_ids
        self.processors = logits_processor
        self.criteria = stopping_criteria
        self.config = generation_config
        # The cache is called past_key_values up to transformers 5.23.
        self.inputs = inputs.keys() - {"encoder_outputs", "cache", "past_key_values", "use_cache"}
        return input_ids


def read_settings(
    model: PreTrainedModel, generation_config: GenerationConfig | None, arguments: dict
) -> AnswerSettings:
    """Let `generate` read, complete and check its arguments; raises NotCovered for what is not covered here.

    The reading is done for one empty clip, so that no batch is expanded to its beams for it.
    """
    for name in OTHER_WAYS:
        if not is_idle(arguments.get(name)):
            raise NotCovered(name)
    config = generation_config or model.generation_config
    if isinstance(arguments.get("decoder_start_token_id", config.decoder_start_token_id), list):
        raise NotCovered("a decoder_start_token_id for each row")
    capture = Capture()
    nothing = BaseModelOutput(last_hidden_state=torch.zeros(1, 1, 1, device=model.device))
    try:
        GenerationMixin.generate(
            model,
            generation_config=generation_config,
            encoder_outputs=nothing,
            custom_generate=capture,
            **{name: value for name, value in arguments.items() if name not in OTHER_WAYS},
        )
        check_covered(capture)
        return reduce_settings(capture)
    except (AttributeError, TypeError) as error:  # if it is the caller's, transformers' own loop raises it again
        raise NotCovered(f"the generate of transformers {transformers.__version__} ({error})") from error


def is_idle(value: object) -> bool:
    """Return whether an argument asks for nothing."""
    return value is None or value is False or (isinstance(value, list) and not value)


def check_covered(capture: Capture) -> None:
    """Raise NotCovered with the name of the first thing that the fast search does not do."""
    config = capture.config
    reasons = {
        f"generation mode {config.get_generation_mode()}": config.get_generation_mode() not in MODES,
        "num_return_sequences": config.num_return_sequences > 1,
        "return_dict_in_generate": config.return_dict_in_generate,
        "use_cache=False": not config.use_cache,
        "cache_implementation": config.cache_implementation is not None,
        "no pad_token_id": config.pad_token_id is None,
        # transformers' beams take that for none, and pad with the end token
        "pad_token_id 0 with beams": config.pad_token_id == 0 and config.num_beams > 1,
        "max_length below 4": config.max_length < 4,
        "forced_bos_token_id that ends the answer": config.forced_bos_token_id in as_list(config.eos_token_id),
    }
    reasons |= dict.fromkeys(sorted(capture.inputs), True)
    reasons |= {type(rule).__name__: type(rule) not in RULES + WARPERS for rule in capture.processors}
    criteria = (EosTokenCriteria, MaxLengthCriteria)
    reasons |= {type(criterion).__name__: type(criterion) not in criteria for criterion in capture.criteria}
    for reason, holds in reasons.items():
        if holds:
            raise NotCovered(reason)


def reduce_settings(capture: Capture) -> AnswerSettings:
    """Take the settings out of a prepared configuration."""
    config = capture.config
    return AnswerSettings(
        num_beams=config.num_beams,
        max_length=config.max_length,
        min_length=config.min_length or 0,
        length_penalty=config.length_penalty,
        early_stopping=config.early_stopping,
        no_repeat_ngram_size=config.no_repeat_ngram_size or 0,
        repetition_penalty=config.repetition_penalty or 1.0,
        forced_bos_token_id=config.forced_bos_token_id,
        forced_eos_token_id=None if config.forced_eos_token_id is None else as_list(config.forced_eos_token_id),
        decoder_start_token_id=int(capture.input_ids[0, 0]),
        eos_token_ids=as_list(config.eos_token_id),
        pad_token_id=config.pad_token_id,
        do_sample=config.do_sample,
        warpers=LogitsProcessorList([rule for rule in capture.processors if type(rule) in WARPERS]),
    )


def as_list(ids: int | list[int] | None) -> list[int]:
    """Write token ids as a list, whichever way a configuration has them."""
    if ids is None:
        return []
    return [ids] if isinstance(ids, int) else list(ids)


def apply_rules(
    settings: AnswerSettings, scores: torch.Tensor, sequences: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    """Apply transformers' logits processors, in its order, to scores (rows, vocab), in place.

    sequences: (rows, max_length), of which each row's first `lengths` (rows,) are its tokens so far. A GPU is not
    waited for.
    """
    if settings.repetition_penalty != 1.0:
        penalise_repetition(scores, sequences, lengths, settings.repetition_penalty)
    if settings.no_repeat_ngram_size > 0:
        ban_repeated_ngrams(scores, sequences, lengths, settings.no_repeat_ngram_size)
    forbid_early_end(settings, scores, lengths)
    if settings.forced_bos_token_id is not None:
        force(scores, lengths == 1, [settings.forced_bos_token_id])
    if settings.forced_eos_token_id is not None:
        force(scores, lengths == settings.max_length - 1, settings.forced_eos_token_id)
    return scores


def penalise_repetition(scores: torch.Tensor, sequences: torch.Tensor, lengths: torch.Tensor, penalty: float) -> None:
    """Make every token that a row holds less likely (https://arxiv.org/abs/1909.05858)."""
    tokens = written(sequences, lengths)
    columns = torch.arange(tokens.shape[1], device=tokens.device)
    tokens = torch.where(columns < lengths[:, None], tokens, tokens[:, :1])  # a token twice is penalised once
    values = scores.gather(1, tokens)
    scores.scatter_(1, tokens, torch.where(values < 0, values * penalty, values / penalty))


def ban_repeated_ngrams(scores: torch.Tensor, sequences: torch.Tensor, lengths: torch.Tensor, size: int) -> None:
    """Forbid tokens that would complete an n-gram which the row holds already."""
    sequences = written(sequences, lengths)
    starts = sequences.shape[1] - size + 1  # columns at which a whole n-gram may begin
    if starts <= 0:
        return
    repeats = torch.arange(starts, device=lengths.device) <= (lengths - size)[:, None]  # (rows, starts)
    last = (lengths - size + 1).clamp(min=0)
    for offset in range(size - 1):
        current = sequences.gather(1, (last + offset)[:, None])
        repeats &= sequences[:, offset : offset + starts] == current
    bans = torch.zeros_like(repeats, dtype=scores.dtype).masked_fill_(repeats, MINUS_INFINITY)
    scores.scatter_add_(1, sequences[:, size - 1 :], bans)


def forbid_early_end(settings: AnswerSettings, scores: torch.Tensor, lengths: torch.Tensor) -> None:
    """Forbid the end of an answer below its minimal length."""
    for token in settings.eos_token_ids if settings.min_length > 0 else ():
        scores[:, token].masked_fill_(lengths < settings.min_length, MINUS_INFINITY)


def force(scores: torch.Tensor, where: torch.Tensor, tokens: list[int]) -> None:
    """Leave only `tokens`, with a log probability of 0, in the rows where `where` (rows,) holds."""
    if scores.device.type == "cpu" and not where.any():
        return
    scores.masked_fill_(where[:, None], MINUS_INFINITY)
    for token in tokens:
        scores[:, token].masked_fill_(where, 0.0)


def written(sequences: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Return the columns in which some row has a token; on a GPU all, since counting would wait for it."""
    return sequences[:, : int(lengths.max())] if lengths.device.type == "cpu" else sequences


def is_one_of(tokens: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Return for each token whether it is among a few."""
    return (tokens[..., None] == ends).any(dim=-1)


class BeamSearch:
    """The hypotheses of up to `slots` questions. Every line of arithmetic is GenerationMixin._beam_search's."""

    def __init__(
        self, settings: AnswerSettings, slots: int, prefix: list[int], device: torch.device | str = "cpu"
    ) -> None:
        self.settings = settings
        self.beams = beams = settings.num_beams
        # As many candidates as leave `beams` of them running if all others end.
        self.candidates = max(2, 1 + len(settings.eos_token_ids)) * beams
        self.prefix = prefix
        shape = (slots, beams, settings.max_length)
        with torch.device(device):
            self.ends = torch.tensor(settings.eos_token_ids, dtype=torch.long)
            self.lengths = torch.ones(slots, dtype=torch.long)  # of the running hypotheses
            self.sequences = torch.full(shape, settings.pad_token_id)
            self.scores = torch.zeros(slots, beams)
            self.ended_sequences = torch.full(shape, settings.pad_token_id)
            self.ended_lengths = torch.zeros(slots, beams, dtype=torch.long)
            self.ended_scores = torch.zeros(slots, beams)
            self.ended = torch.zeros(slots, beams, dtype=torch.bool)
            self.can_improve = torch.ones(slots, dtype=torch.bool)
            powers = [float(length) ** settings.length_penalty for length in range(1, settings.max_length + 1)]
            self.penalties = torch.tensor([1.0, *powers])  # by number of generated tokens
        self.rows_at_once = ROWS if self.scores.device.type == "cpu" else slots * beams

    @property
    def states(self) -> list[torch.Tensor]:
        """What a step changes; the first dimension is the slot."""
        ended = [self.ended_sequences, self.ended_lengths, self.ended_scores, self.ended]
        return [self.lengths, self.sequences, self.scores, *ended, self.can_improve]

    def open(self, slot: int) -> None:
        """Begin a question: only its first hypothesis counts, or all would take the same tokens."""
        for column, token in enumerate(self.prefix):
            self.sequences[slot, :, column] = token
        self.sequences[slot, :, len(self.prefix) :] = self.settings.pad_token_id
        self.scores[slot] = OUT
        self.scores[slot, :1] = 0
        self.ended_sequences[slot] = self.sequences[slot]
        self.ended_scores[slot] = OUT
        self.ended[slot] = False
        self.ended_lengths[slot] = len(self.prefix)
        # fill_, since assigning a number to a single element waits for a GPU
        self.lengths[slot].fill_(len(self.prefix))
        self.can_improve[slot].fill_(True)

    def move(self, source: int, target: int) -> None:
        """Copy a question to another slot."""
        for state in self.states:
            state[target] = state[source]

    def advance(self, logits: torch.Tensor, active: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Choose the next tokens of the first `active` questions from logits (active · beams, vocab).

        Returns the beam that each new beam continues, (active, beams), and which questions are done, (active,).
        """
        lengths = self.lengths[:active]
        scores, beams, tokens = self._best_candidates(logits, active)
        sequences = take(self.sequences[:active], beams)
        sequences.scatter_(2, lengths[:, None, None].expand(-1, self.candidates, 1), tokens[:, :, None])
        hits = is_one_of(tokens, self.ends) | (lengths + 1 >= self.settings.max_length)[:, None]
        self._end(scores, sequences, hits, active)
        running = scores + hits.float() * OUT
        chosen = running.topk(self.beams).indices
        self.sequences[:active] = take(sequences, chosen)
        self.scores[:active] = running.gather(1, chosen)
        self.lengths[:active] += 1
        return beams.gather(1, chosen), self._done(hits, active)

    def answer(self, slot: int) -> tuple[list[int], float]:
        """Return the best ended hypothesis of a question, from the start token to the end token, and its score."""
        length = int(self.ended_lengths[slot, 0])
        return self.ended_sequences[slot, 0, :length].tolist(), float(self.ended_scores[slot, 0])

    def _best_candidates(
        self, logits: torch.Tensor, active: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the best continuations over all beams, best first: scores, beams, tokens (active, candidates)."""
        sequences = self.sequences[:active].flatten(0, 1)
        lengths = self.lengths[:active].repeat_interleave(self.beams)
        best = []
        for start in range(0, len(logits), self.rows_at_once):
            rows = slice(start, start + self.rows_at_once)
            log_probs = apply_rules(self.settings, logits[rows].log_softmax(-1), sequences[rows], lengths[rows])
            best.append(best_tokens(log_probs, self.candidates))
        values, tokens = map(torch.cat, zip(*best, strict=True))  # (active · beams, kept) each
        values = values.view(active, self.beams, self.candidates) + self.scores[:active, :, None]
        scores, chosen = values.flatten(1).topk(self.candidates)
        return scores, chosen // self.candidates, tokens.view(active, -1).gather(1, chosen)

    def _end(self, scores: torch.Tensor, sequences: torch.Tensor, hits: torch.Tensor, active: int) -> None:
        """Enter candidates that end now among the ended hypotheses, and keep the best of those."""
        now = hits.clone()
        now[:, self.beams :] = False  # worse candidates are only there to run on
        full = self.ended[:active].all(dim=1) & (self.settings.early_stopping is True)
        closed = full.float() * OUT + (~self.can_improve[:active]).float() * OUT
        length = self.lengths[:active] + 1
        scores = scores / self.penalties[length - 1][:, None] + closed[:, None] + (~now).float() * OUT
        scores = torch.cat([self.ended_scores[:active], scores], dim=1)
        best = scores.topk(self.beams).indices
        self.ended_scores[:active] = scores.gather(1, best)
        self.ended_sequences[:active] = take(torch.cat([self.ended_sequences[:active], sequences], dim=1), best)
        lengths = torch.cat([self.ended_lengths[:active], length[:, None].expand(-1, self.candidates)], dim=1)
        self.ended_lengths[:active] = lengths.gather(1, best)
        self.ended[:active] = torch.cat([self.ended[:active], now], dim=1).gather(1, best)

    def _done(self, hits: torch.Tensor, active: int) -> torch.Tensor:
        """Return which questions cannot, or need not, get a better answer any more."""
        settings, ended = self.settings, self.ended[:active]
        generated = self.lengths[:active] - 1
        if settings.early_stopping == "never" and settings.length_penalty > 0:
            generated = torch.full_like(generated, settings.max_length - 1)
        hope = self.scores[:active, :1] / self.penalties[generated][:, None]
        worst = torch.where(ended, self.ended_scores[:active].amin(dim=1, keepdim=True), OUT)
        self.can_improve[:active] &= (hope > worst).any(dim=1)
        enough = ended.all(dim=1) & (settings.early_stopping is True)
        return ~self.can_improve[:active] | enough | hits.all(dim=1)


def take(states: torch.Tensor, beams: torch.Tensor) -> torch.Tensor:
    """Pick beams (questions, picked) out of states (questions, beams, length)."""
    return states.gather(1, beams[:, :, None].expand(-1, -1, states.shape[2]))


def best_tokens(scores: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the `count` best entries of each row of scores (rows, vocab): values and indices, best first.

    The best entries lie in the blocks with the best maxima, and finding those reads the scores once, in order.
    """
    blocks = scores.view(len(scores), -1, BLOCK)
    if blocks.shape[1] <= count:
        return scores.topk(count)
    chosen = blocks.amax(dim=2).topk(count).indices  # (rows, count)
    values, indices = blocks.gather(1, chosen[:, :, None].expand(-1, -1, BLOCK)).flatten(1).topk(count)
    return values, chosen.gather(1, indices // BLOCK) * BLOCK + indices % BLOCK


class GreedySearch:
    """The answers so far of up to `slots` questions, as GenerationMixin._sample builds them."""

    beams = 1

    def __init__(self, settings: AnswerSettings, slots: int, device: torch.device | str = "cpu") -> None:
        self.settings = settings
        self.prefix = [settings.decoder_start_token_id]
        with torch.device(device):
            self.ends = torch.tensor(settings.eos_token_ids, dtype=torch.long)
            self.lengths = torch.ones(slots, dtype=torch.long)
            self.sequences = torch.full((slots, 1, settings.max_length), settings.pad_token_id)
            self.scores = torch.zeros(slots)  # summed log probabilities of the tokens, before any rule

    @property
    def states(self) -> list[torch.Tensor]:
        """What a step changes; the first dimension is the slot."""
        return [self.lengths, self.sequences, self.scores]

    def open(self, slot: int) -> None:
        """Begin a question."""
        self.sequences[slot] = self.settings.pad_token_id
        self.sequences[slot, :, 0] = self.prefix[0]
        # fill_, since assigning a number to a single element waits for a GPU
        self.lengths[slot].fill_(1)
        self.scores[slot].fill_(0)

    def move(self, source: int, target: int) -> None:
        """Copy a question to another slot."""
        for state in self.states:
            state[target] = state[source]

    def advance(self, logits: torch.Tensor, active: int) -> tuple[None, torch.Tensor]:
        """Append the next token of the first `active` questions from logits (active, vocab).

        Returns None, since no beam changes its place, and which questions are done, (active,).
        """
        lengths = self.lengths[:active].clone()
        log_probs = logits.log_softmax(-1)
        tokens = self.choose(apply_rules(self.settings, logits, self.sequences[:active, 0], lengths))
        self.scores[:active] += log_probs.gather(1, tokens[:, None])[:, 0]
        self.sequences[:active, 0].scatter_(1, lengths[:, None], tokens[:, None])
        self.lengths[:active] += 1
        return None, is_one_of(tokens, self.ends) | (lengths + 1 >= self.settings.max_length)

    def choose(self, scores: torch.Tensor) -> torch.Tensor:
        """Choose a token a row from scores (rows, vocab)."""
        return scores.argmax(dim=-1)

    def answer(self, slot: int) -> tuple[list[int], float]:
        """Return the answer to a question, from the start token to the end token, and its mean log probability."""
        length = int(self.lengths[slot])
        return self.sequences[slot, 0, :length].tolist(), float(self.scores[slot]) / (length - 1)


class SamplingSearch(GreedySearch):
    """Sampled answers. All questions stay to the end, since each draw takes its numbers for the whole batch."""

    def __init__(
        self, settings: AnswerSettings, slots: int, vocab_size: int, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(settings, slots, device)
        self.vocab_size = vocab_size
        self.done = torch.zeros(slots, dtype=torch.bool, device=device)

    def advance(self, logits: torch.Tensor, active: int) -> tuple[None, torch.Tensor]:
        """Append a sampled token to all answers that go on; the questions are done together."""
        log_probs = logits.log_softmax(-1)
        tokens = self.choose(apply_rules(self.settings, logits, self.sequences[:, 0], self.lengths))
        tokens = tokens.masked_fill(self.done, self.settings.pad_token_id)
        self.scores += log_probs.gather(1, tokens[:, None])[:, 0].masked_fill(self.done, 0)
        self.sequences[:, 0].scatter_(1, self.lengths[:, None], tokens[:, None])
        self.lengths += (~self.done).long()
        self.done |= is_one_of(tokens, self.ends) | (self.lengths >= self.settings.max_length)
        return None, self.done.all().expand(active)

    def choose(self, scores: torch.Tensor) -> torch.Tensor:
        """Draw a token a row from scores (rows, vocab) as torch's generator has it."""
        # Without the head's padding: the numbers drawn depend on the shape.
        scores = scores[:, : self.vocab_size].contiguous()
        scores = self.settings.warpers(self.sequences[:, 0], scores)
        return scores.softmax(dim=-1).multinomial(1)[:, 0]
