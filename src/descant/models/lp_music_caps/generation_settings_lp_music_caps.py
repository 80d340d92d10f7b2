"""The settings of one call of `generate`, read by transformers itself and reduced to what the fast search knows."""

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

