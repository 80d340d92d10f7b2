"""How the model answers: one batch through `generate`, or a stream of (clip, question) pairs through `answer_many`."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Self

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig
from transformers.generation import BaseStreamer
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

from .engine_lp_music_caps import Answer, Pair, QuestionStream
from .generation_settings_lp_music_caps import AnswerSettings, NotCovered, read_settings
from .packed_bart_lp_music_caps import TIERS, check_tier, lower_precision
from .packed_models_lp_music_caps import PackedModel, forget_packed, packed_model

if TYPE_CHECKING:  # the class that the methods are mixed into
    from transformers import PreTrainedModel as Base
else:
    Base = object

logger = logging.get_logger(__name__)

FULL_SPEED = 160 * 768  # work per decoding step (rows × d_model) at which a CPU reaches full throughput
GPU_ROWS = 4  # times as many rows a GPU takes


class LPMusicCapsGenerationMixin(Base):
    """The answering methods of `LPMusicCapsForConditionalGeneration`."""

    tiers = tuple(TIERS)  # that `generate` and `answer_many` take

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation, and drop the packed weights, which training would outdate."""
        if mode:
            forget_packed(self)
        return super().train(mode)

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        input_features: torch.Tensor | None = None,
        prompt_input_ids: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        clip_index: torch.Tensor | None = None,
        audio_embeds: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        streamer: BaseStreamer | None = None,
        fast: bool = True,
        tier: str = "fp32",
        vocabulary: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Answer each row of a batch: tokens (batch, longest answer), or what `return_dict_in_generate` asks for.

        Inputs are those of `forward`, settings those of transformers' `generate`.

        inputs: another name for input_features. labels: ignored, so that a training batch can be passed on.
        input_ids: ignored beside prompt_input_ids, which `apply_chat_template` gives twice.
        fast: by this folder's search, with the tokens of transformers' own in less time; False: by transformers' own.
        tier: "bf16" and "int8" are faster, and some of their tokens differ from those of "fp32".
        vocabulary: the token ids that answers may have, which is faster the fewer there are; all of them without it.

        Raises ValueError for assistant_model (an assistant cannot hear the clip), for a tier that this device has
        not, for a tier or vocabulary where transformers' own loop has to run, and for input_ids alone.
        """
        if input_ids is not None and prompt_input_ids is None and encoder_outputs is None:
            raise ValueError("generate got input_ids: pass the question as prompt_input_ids")
        if kwargs.get("assistant_model") is not None:
            raise ValueError("assistant_model: an assistant cannot hear the clip; leave it out")
        choice = fast, tier, vocabulary
        settings, packed = self._prepare_search(*choice, generation_config, kwargs)
        if encoder_outputs is None:
            clips = input_features if inputs is None else inputs
            outputs = {} if packed else self._list_outputs(generation_config, kwargs)
            encoder = packed.encoder if packed else None
            with lower_precision(tier, self.device):
                encoder_outputs, attention_mask = self.encode(
                    clips, prompt_input_ids, prompt_attention_mask, clip_index, audio_embeds, encoder, **outputs
                )
        elif isinstance(encoder_outputs, tuple):
            encoder_outputs = BaseModelOutput(*encoder_outputs)
        states = encoder_outputs[0].to(self.dtype)
        if settings and packed and can_stream(streamer, settings, len(states), *choice):
            return answer_batch(packed, settings, states, attention_mask, streamer)
        # A new one: its tensors are expanded in place.
        encoded = BaseModelOutput(**{**encoder_outputs, "last_hidden_state": states})
        return self._generate_plainly(encoded, attention_mask, streamer, generation_config, kwargs)

    @torch.no_grad()
    def answer_many(
        self,
        pairs: Iterable[Pair],
        *,
        batch_size: int = 32,
        generation_config: GenerationConfig | None = None,
        fast: bool = True,
        tier: str = "fp32",
        vocabulary: Sequence[int] | None = None,
        **settings: Any,
    ) -> Iterator[Answer]:
        """Answer a stream of (clip key, input_features (128, 1001), prompt ids or None) with bounded memory.

        Yields (position in the stream, token ids as `generate` gives them without padding, length-normalised log
        probability), in the order in which answers are done. Pairs with the same key are about the same clip.
        batch_size: questions in flight; twice as many pairs are read ahead. Everything else: as for `generate`.
        """
        check_one_answer(generation_config or self.generation_config, settings)
        search, packed = self._prepare_search(fast, tier, vocabulary, generation_config, settings)
        stream = iter(QuestionStream(self, pairs, 2 * batch_size, tier, packed.encoder if packed else None))
        if search is None or packed is None:
            yield from self._answer_plainly(stream, batch_size, generation_config, settings)
        elif search.do_sample:  # a draw takes its numbers for a whole batch, so no question joins or leaves it
            while batch := list(islice(stream, batch_size)):
                yield from packed.engine(search, len(batch)).run(iter(batch))
        elif first := list(islice(stream, batch_size)):  # few questions need only a small cache
            more = list(islice(stream, 1))
            yield from packed.engine(search, len(first), refilled=bool(more)).run(chain(first, more, stream))

    def _prepare_search(
        self,
        fast: bool,
        tier: str,
        vocabulary: Sequence[int] | None,
        generation_config: GenerationConfig | None,
        arguments: dict,
    ) -> tuple[AnswerSettings, PackedModel] | tuple[None, None]:
        """Read the settings and pack the weights, or log why transformers' loop is to run, and return nothing."""
        check_tier(tier, self.device)
        try:
            if not fast:
                raise NotCovered("fast=False")
            if self.device.type == "meta":  # the settings cannot be read, for tensors on it have no values
                raise NotCovered("a model whose weights are offloaded")
            settings = read_settings(self, generation_config, arguments)
            if vocabulary is not None:
                vocabulary = sorted(settings.named_tokens.union(vocabulary))
            packed = packed_model(self, tier, vocabulary)
        except NotCovered as reason:
            explain(reason, fast, tier, vocabulary)
            return None, None
        return settings, packed

    def _list_outputs(self, generation_config: GenerationConfig | None, arguments: dict) -> dict[str, bool]:
        """Return which states of the encoder the caller asks for, besides the last ones."""
        config = generation_config or self.generation_config
        names = ("output_attentions", "output_hidden_states")
        return {name: True for name in names if arguments.get(name, vars(config).get(name))}

    def _generate_plainly(
        self,
        encoded: BaseModelOutput,
        attention_mask: torch.Tensor | None,
        streamer: BaseStreamer | None,
        generation_config: GenerationConfig | None,
        settings: dict,
    ) -> Any:
        """Answer a batch of encoded questions through transformers' own loop."""
        shape, device = encoded.last_hidden_state.shape[:2], encoded.last_hidden_state.device
        if attention_mask is None:
            attention_mask = torch.ones(shape, dtype=torch.long, device=device)
        return super().generate(
            # What transformers puts here itself, but on the device of the states: offloaded weights have none.
            torch.full(shape, -100, device=device),
            generation_config=generation_config,
            encoder_outputs=encoded,
            attention_mask=attention_mask,
            streamer=streamer,
            **settings,
        )

    def _answer_plainly(
        self,
        stream: Iterator[tuple[int, torch.Tensor]],
        batch_size: int,
        generation_config: GenerationConfig | None,
        settings: dict,
    ) -> Iterator[Answer]:
        """Answer a stream of encoded questions, batch after batch, through transformers' own loop."""
        outputs = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}
        while batch := list(islice(stream, batch_size)):
            states = [states for _, states in batch]
            masks = [torch.ones(len(row), dtype=torch.long, device=row.device) for row in states]
            result = self.generate(
                generation_config=generation_config,
                encoder_outputs=BaseModelOutput(last_hidden_state=pad_sequence(states, batch_first=True)),
                attention_mask=pad_sequence(masks, batch_first=True),
                fast=False,
                **(settings | outputs),
            )
            scores = normalised_scores(result, self.config.pad_token_id).tolist()
            for (position, _), tokens, score in zip(batch, result.sequences.tolist(), scores, strict=True):
                yield position, strip_padding(tokens, self.config.pad_token_id), score


def answer_batch(
    packed: PackedModel,
    settings: AnswerSettings,
    states: torch.Tensor,
    attention_mask: torch.Tensor | None,
    streamer: BaseStreamer | None,
) -> torch.Tensor:
    """Answer all rows of encoder states (batch, length, d_model); returns tokens (batch, longest answer)."""
    if attention_mask is None:
        attention_mask = torch.ones(states.shape[:2], dtype=torch.long, device=states.device)
    rows_at_once = max(160, FULL_SPEED // states.shape[2]) * (1 if states.device.type == "cpu" else GPU_ROWS)
    slots = len(states) if settings.do_sample else min(len(states), max(1, rows_at_once // settings.num_beams))
    on_token = None if streamer is None else streamer.put
    engine = packed.engine(settings, slots, on_token, refilled=slots < len(states))
    lengths = attention_mask.sum(dim=1).tolist()
    rows = enumerate(states[attention_mask.bool()].split(lengths))
    if streamer is not None:
        streamer.put(torch.tensor([[settings.decoder_start_token_id]]))
    answers = {row: torch.tensor(tokens) for row, tokens, _ in engine.run(rows)}
    if streamer is not None:
        streamer.end()
    ordered = [answers[row] for row in range(len(states))]
    return pad_sequence(ordered, batch_first=True, padding_value=settings.pad_token_id).to(states.device)


def check_one_answer(config: GenerationConfig, settings: dict) -> None:
    """Raise ValueError where several answers to each question are asked for, which a stream does not give."""
    count = settings.get("num_return_sequences", config.num_return_sequences)
    if count is not None and count > 1:
        raise ValueError(f"answer_many gives one answer to each question, not num_return_sequences={count}")


def can_stream(
    streamer: BaseStreamer | None,
    settings: AnswerSettings,
    rows: int,
    fast: bool,
    tier: str,
    vocabulary: Sequence[int] | None,
) -> bool:
    """Return whether the fast search can feed the streamer, if there is one: with one hypothesis at a time."""
    if streamer is None or (rows == 1 and settings.num_beams == 1):
        return True
    explain(NotCovered("streaming more than one hypothesis"), fast, tier, vocabulary)
    return False


def explain(reason: NotCovered, fast: bool, tier: str, vocabulary: Sequence[int] | None) -> None:
    """Log why transformers' own loop runs; raises ValueError where that cannot do what was asked for."""
    if tier != "fp32" or vocabulary is not None:
        raise ValueError(f"tier and vocabulary need the fast search, which does not cover this: {reason}") from reason
    if fast:
        logger.warning_once(f"{reason} is not covered by the fast search: transformers' own loop runs")


def normalised_scores(result: Any, pad_token_id: int) -> torch.Tensor:
    """Return the length-normalised log probability of each answer of a result of `generate`, (batch,)."""
    if "sequences_scores" in result:
        return result.sequences_scores
    tokens = result.sequences[:, 1:]
    log_probs = torch.stack(result.logits, dim=1).log_softmax(dim=-1).gather(2, tokens[:, :, None])[:, :, 0]
    written = tokens != pad_token_id
    return (log_probs * written).sum(dim=1) / written.sum(dim=1)


def strip_padding(tokens: list[int], pad_token_id: int) -> list[int]:
    """Drop the padding at the end of a row of `generate`."""
    end = len(tokens)
    while end and tokens[end - 1] == pad_token_id:
        end -= 1
    return tokens[:end]
