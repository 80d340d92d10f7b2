"""How the model answers: batches (`generate`), streams (`answer_many`), and options of questions (`score_options`)."""

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation import BaseStreamer
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

from .answer_tree import AnswerTree, pool_states, read_hidden
from .decision_music import MusicDecisionMixin
from .engine_lp_music_caps import Answer, PackedModel, forget_packed, packed_model
from .packed_bart_lp_music_caps import TIERS, FastEncoder, check_tier, lower_precision
from .search_lp_music_caps import AnswerSettings, NotCovered, read_settings

if TYPE_CHECKING:  # the class that the methods are mixed into
    from transformers import PreTrainedModel as Base
else:
    Base = object

logger = logging.get_logger(__name__)

Pair = tuple[Hashable, torch.Tensor | np.ndarray, list[int] | None]  # clip key, input_features, prompt ids

GROUP = 16  # questions encoded together: enough rows for the processor's full speed
CLIPS_KEPT = 256  # embedded clips remembered, at 100 KB each
FULL_SPEED = 160 * 768  # work per decoding step (rows × d_model) at which a CPU reaches full throughput
GPU_ROWS = 4  # times as many rows a GPU takes
TREES_AT_ONCE = 64  # rows of the decoder, each a window and a wording of a question


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


class QuestionStream:
    """Pairs of clip and question, encoded in groups of like length.

    Iterates over (position in the stream, encoder states (length, d_model)); reads `ahead` pairs at a time.
    """

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


class LPMusicCapsDecisionMixin(MusicDecisionMixin, Base):
    """The methods of `LPMusicCapsForConditionalGeneration` for typed questions."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path | None, *args: Any, **kwargs: Any) -> Any:
        """Load as transformers does, and the model's `decision.json`."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if pretrained_model_name_or_path is not None:
            model.load_decisions(pretrained_model_name_or_path, kwargs)
        return loaded

    def audio_layers(self) -> dict[str, nn.Module]:
        """Return the first and the last convolution over the log-mel, by which the model's weights are known."""
        return {"audio_encoder": self.audio_encoder.conv1, "audio_encoder.last": self.audio_encoder.conv_stack[-1]}

    def frozen_audio(self) -> dict[str, nn.Module]:
        """Return no part: all of the audio side may train."""
        return {}

    @torch.no_grad()
    def score_options(
        self, input_features: torch.Tensor, prompts: list[list[list[int]]], trees: list[AnswerTree]
    ) -> list[torch.Tensor]:
        """Return log-probabilities (windows, options) of each question, averaged over its wordings.

        prompts: question → wordings → token ids. trees: the sentences that state each question's options.
        """
        audio = self.get_audio_features(input_features.to(self.device))
        states = read_hidden(pool_states(audio), trees)
        parts = [tree.split() for tree in trees]
        asked = [(number, prompt) for number, wordings in enumerate(prompts) for prompt in wordings]
        read = [(number, prompt, part) for number, prompt in asked for part in parts[number]]
        sums: list[torch.Tensor] = []
        at_once = max(1, TREES_AT_ONCE // len(audio))
        for start in range(0, len(read), at_once):
            group = read[start : start + at_once]
            log_probs = self._score_trees(audio, [prompt for _, prompt, _ in group], [part for *_, part in group])
            rows = log_probs.split(len(audio))
            sums += [part.read_paths(one) for (*_, part), one in zip(group, rows, strict=True)]
        scores: list[list[torch.Tensor]] = [[] for _ in trees]
        for number, _ in asked:
            own, sums = sums[: len(parts[number])], sums[len(parts[number]) :]
            scores[number].append(trees[number].gather(torch.cat(own, dim=1), states).log_softmax(dim=1))
        return [torch.stack(wordings).mean(dim=0) for wordings in scores]

    @torch.no_grad()
    def read_probed(self, input_features: torch.Tensor) -> torch.Tensor:
        """Return what probes read of each window: pooled audio embeddings (windows, 2 × width)."""
        return pool_states(self.get_audio_features(input_features.to(self.device)))

    def _score_trees(self, audio: torch.Tensor, prompts: list[list[int]], trees: list[AnswerTree]) -> torch.Tensor:
        """Read each prompt about every window, and its tree behind it: (prompts × windows, nodes, vocabulary)."""
        windows = len(audio)
        ids = pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True).to(audio.device)
        mask = pad_sequence([torch.ones(len(prompt), dtype=torch.long) for prompt in prompts], batch_first=True)
        encoded, encoded_mask = self.encode(
            prompt_input_ids=ids.repeat_interleave(windows, dim=0),
            prompt_attention_mask=mask.to(audio.device).repeat_interleave(windows, dim=0),
            clip_index=torch.arange(windows, device=audio.device).repeat(len(prompts)),
            audio_embeds=audio,
        )
        tokens, depths, visible = stack_trees(trees, self.config.decoder_start_token_id)
        embeds = embed_nodes(self.model.decoder, tokens.to(audio.device), depths.to(audio.device))
        blocked = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
        states = self.model.decoder(
            inputs_embeds=embeds.repeat_interleave(windows, dim=0),
            attention_mask=blocked[:, None].to(encoded[0]).repeat_interleave(windows, dim=0),
            encoder_hidden_states=encoded[0],
            encoder_attention_mask=encoded_mask,
            use_cache=False,
        ).last_hidden_state
        return (self.lm_head(states) + self.final_logits_bias).float().log_softmax(dim=-1)


def embed_nodes(decoder: Any, tokens: torch.Tensor, depths: torch.Tensor) -> torch.Tensor:
    """Embed nodes (rows, nodes) for BART's decoder (rows, nodes, width), each at its depth.

    The decoder takes no positions: it adds those of a row of tokens by itself, which are taken off beforehand here.
    """
    positions = decoder.embed_positions.weight[decoder.embed_positions.offset :]
    return decoder.embed_tokens(tokens) + nn.functional.embedding(depths, positions) - positions[: tokens.shape[1]]


def stack_trees(trees: list[AnswerTree], start: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pad trees to the largest: tokens and depths (trees, nodes), which nodes each one sees (trees, nodes, nodes).

    start: the token of each tree's first node.
    """
    size = max(len(tree.tokens) for tree in trees)
    tokens, depths = torch.zeros(len(trees), size, dtype=torch.long), torch.zeros(len(trees), size, dtype=torch.long)
    visible = torch.eye(size, dtype=torch.bool).repeat(len(trees), 1, 1)
    for row, tree in enumerate(trees):
        nodes = len(tree.tokens)
        tokens[row, :nodes], depths[row, :nodes], visible[row, :nodes, :nodes] = tree.tokens, tree.depths, tree.visible
    tokens[:, 0] = start
    return tokens, depths, visible


__all__ = ["LPMusicCapsDecisionMixin", "LPMusicCapsGenerationMixin"]
