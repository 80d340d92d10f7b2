"""How the model answers: batches (`generate`), streams (`answer_many`), and options of questions (`score_options`).

Prefixes are shared: the tokens before the audio are read once, and each clip once, behind them. Options are one tree
of tokens behind the audio and the question, whose wordings are read together.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, GenerationConfig, PreTrainedModel
from transformers.generation import BaseStreamer, LogitsProcessorList, RepetitionPenaltyLogitsProcessor

from .answer_tree import AnswerTree, pool_states, read_hidden
from .decision_music import MusicDecisionMixin

if TYPE_CHECKING:  # the class that the methods are mixed into
    from transformers import PreTrainedModel as Base
else:
    Base = object

CLIPS_KEPT = 64  # a clip of 50 positions takes 2 MB in SmolLM2-135M

Pair = tuple[Hashable, torch.Tensor, list[int] | None]  # clip key, features, prompt ids
Answer = tuple[int, list[int], float]  # position in the stream, tokens, length-normalised log probability
Numbered = tuple[int, Pair]

# Arguments of transformers' `generate` that are no settings: passed on where they are given.
PASSED_ON = (
    "logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn", "synced_gpus", "custom_generate", "tokenizer",
    "trust_remote_code",
)  # fmt: skip
# Arguments that another model or prompt would have to follow, which has not the embeddings that answers begin from.
REFUSED = ("assistant_model", "negative_prompt_ids", "negative_prompt_attention_mask")

# The settings that the loop of `answer_many` knows, with the values that it follows (none listed: any).
KNOWN: dict[str, tuple[int, ...]] = {
    "max_new_tokens": (), "max_length": (), "eos_token_id": (), "pad_token_id": (), "bos_token_id": (),
    "num_beams": (1,), "do_sample": (False,), "transformers_version": (), "_from_model_config": (),
}  # fmt: skip


class PrefixCache:
    """A prefix cache: keys and values of the prompt up to the end of the audio, for the clips used last."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.openings: dict[tuple[int, ...], torch.Tensor] = {}
        self.clips: OrderedDict[Hashable, torch.Tensor] = OrderedDict()

    def read(
        self, keys: Sequence[Hashable], features: Sequence[torch.Tensor], opening: tuple[int, ...]
    ) -> tuple[DynamicCache, int]:
        """Return a cache whose rows hold the tokens of `opening` and their clip's audio, and its length."""
        opened = self._read_opening(opening)
        names = [(opening, key) for key in keys]
        new = {name: clip for name, clip in zip(names, features, strict=True) if name not in self.clips}
        if new:
            embeds = self.model.get_audio_features(torch.stack(list(new.values())).to(self.model.device))
            states = self.read_audio(embeds, opening)[..., len(opening) :, :].unbind(dim=2)
            # Copies: a view would keep all clips of its batch in memory.
            self.clips.update((name, clip.clone()) for name, clip in zip(new, states, strict=True))
        for name in names:
            self.clips.move_to_end(name)
        clips = torch.stack([self.clips[name] for name in names], dim=2)
        while len(self.clips) > CLIPS_KEPT:
            self.clips.popitem(last=False)
        whole = torch.cat([repeat(opened, len(names)), clips], dim=4)
        return as_cache(whole), whole.shape[4]

    def _read_opening(self, opening: tuple[int, ...]) -> torch.Tensor:
        """Return the states (layers, 2, 1, heads, length, head size) of the tokens before the audio, if any."""
        if not opening:
            config = self.model.language_model.config
            sizes = (config.num_hidden_layers, 2, 1, config.num_key_value_heads, 0, config.head_dim)
            return self.model.get_input_embeddings().weight.new_empty(sizes)
        if opening not in self.openings:
            ids = torch.tensor([opening], device=self.model.device)
            cache = DynamicCache()
            self.model.read_on(self.model.get_input_embeddings()(ids), cache)
            self.openings[opening] = as_tensor(cache)
        return self.openings[opening]

    def read_audio(self, embeds: torch.Tensor, opening: tuple[int, ...]) -> torch.Tensor:
        """Compute the states (layers, 2, clips, heads, length, head size) of an opening and clips' audio behind it.

        embeds: (clips, positions, width).
        """
        cache = as_cache(repeat(self._read_opening(opening), len(embeds)))
        self.model.read_on(embeds, cache)
        return as_tensor(cache)


def as_tensor(cache: DynamicCache) -> torch.Tensor:
    """Stack keys and values of all layers, (layers, 2, rows, heads, length, head size)."""
    return torch.stack([torch.stack([layer.keys, layer.values]) for layer in cache.layers])


def as_cache(states: torch.Tensor) -> DynamicCache:
    """Build a cache from stacked keys and values: the inverse of `as_tensor`."""
    cache = DynamicCache()
    for number, (keys, values) in enumerate(states):
        cache.update(keys, values, number)
    return cache


def repeat(states: torch.Tensor, rows: int) -> torch.Tensor:
    """Expand one row's states to many rows."""
    return states.expand(-1, -1, rows, -1, -1, -1)


class MertLMGenerationMixin(Base):
    """The answering methods of `MertLMForConditionalGeneration`."""

    tiers = ()  # a lower precision is that of the weights

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
        labels: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        streamer: BaseStreamer | None = None,
        **kwargs: Any,
    ) -> Any:
        """Answer each row of a batch: tokens (batch, longest answer), or what `return_dict_in_generate` asks for.

        Inputs are those of `forward`, settings those of transformers' `generate`; the prompts are not repeated.

        inputs: another name for input_features. labels, decoder_input_ids: ignored, so that a training batch can be
            passed on. input_ids: ignored beside prompt_input_ids, which `apply_chat_template` gives twice.
            max_length: counts the answer's tokens alone, as max_new_tokens does.
        Raises ValueError for arguments that `generate` does not know, and for assistant_model and negative prompts,
        which cannot hear the clip.
        """
        if prompt_input_ids is None:
            raise ValueError("the prompts are missing: build them with MertLMProcessor, text=[None, …] for captions")
        if audio_embeds is None:
            audio_embeds = self.get_audio_features(inputs if inputs is not None else input_features)
        if clip_index is not None:
            audio_embeds = audio_embeds[clip_index]
        ids, mask = self._open_answers(prompt_input_ids, prompt_attention_mask)
        config, objects = self.read_generation_config(generation_config, kwargs)
        objects["logits_processor"] = LogitsProcessorList(
            [*take_repetition_penalty(config), *objects.get("logits_processor", [])]
        )
        return self.language_model.generate(
            inputs_embeds=self.embed_prompts(ids, mask, audio_embeds),
            attention_mask=mask,
            generation_config=config,
            streamer=streamer,
            **objects,
        )

    def _open_answers(self, ids: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Move all padding of prompts to their start, and append the token after which the answer begins."""
        mask = torch.ones_like(ids) if mask is None else mask
        order = mask.argsort(dim=1, stable=True)
        ids = nn.functional.pad(ids.gather(1, order), (0, 1), value=self.config.decoder_start_token_id)
        return ids, nn.functional.pad(mask.gather(1, order), (0, 1), value=1)

    def read_generation_config(
        self, given: GenerationConfig | None, arguments: dict[str, Any]
    ) -> tuple[GenerationConfig, dict[str, Any]]:
        """Return the settings of one call, over those of the model, and the objects that are passed on beside them.

        given: in place of the model's; its length and end, where it leaves them open, are the model's.
        Raises ValueError for an argument that is neither, or that cannot be followed.
        """
        objects = {name: arguments[name] for name in PASSED_ON if arguments.get(name)}
        settings = {name: value for name, value in arguments.items() if name not in PASSED_ON + REFUSED}
        refused = [name for name in REFUSED if arguments.get(name) is not None]
        if refused:
            raise ValueError(f"{refused[0]}: only this model hears the clip; leave it out")
        config = deepcopy(given or self.generation_config)
        unknown = config.update(**settings)
        if unknown:
            raise ValueError(f"generate knows no {', '.join(sorted(unknown))}")
        if "max_length" in settings and "max_new_tokens" not in settings:
            config.max_new_tokens = settings["max_length"]
        own = self.generation_config
        config.max_new_tokens = config.max_new_tokens or config.max_length or own.max_new_tokens or own.max_length
        config.max_length = None
        config.eos_token_id = own.eos_token_id if config.eos_token_id is None else config.eos_token_id
        config.pad_token_id = own.pad_token_id if config.pad_token_id is None else config.pad_token_id
        return config, objects

    @torch.no_grad()
    def answer_many(
        self,
        pairs: Iterable[Pair],
        *,
        batch_size: int = 32,
        generation_config: GenerationConfig | None = None,
        **settings: Any,
    ) -> Iterator[Answer]:
        """Answer a stream of (clip key, features of the clip, prompt ids) with bounded memory.

        Yields (position in the stream, token ids as `generate` gives them without padding, length-normalised log
        probability). Pairs with the same key are about the same clip: it is encoded once, and read once by the
        language model, which also reads the tokens before the audio only once.
        batch_size: questions at a time; twice as many pairs are read ahead. Everything else: as for `generate`.
        """
        config, objects = self.read_generation_config(generation_config, settings)
        if (config.num_return_sequences or 1) > 1:
            count = config.num_return_sequences
            raise ValueError(f"answer_many gives one answer to each question, not num_return_sequences={count}")
        greedily = is_greedy(config) and not objects
        answer = self._answer_greedily if greedily else partial(self._answer_by_generate, objects=objects)
        prefixes = PrefixCache(self)
        stream = enumerate(pairs)
        while window := list(islice(stream, 2 * batch_size)):
            window.sort(key=lambda item: len(item[1][2] or ()))
            for start in range(0, len(window), batch_size):
                yield from answer(window[start : start + batch_size], config, prefixes)

    def _answer_greedily(self, batch: list[Numbered], config: GenerationConfig, prefixes: PrefixCache) -> list[Answer]:
        """Answer with the likeliest token each time, behind what the prefix cache holds."""
        prompts = [self._split(pair[2]) for _, pair in batch]
        openings = {opening for opening, _ in prompts}
        if len(openings) > 1:
            return [answer for item in batch for answer in self._answer_greedily([item], config, prefixes)]
        keys, features = [pair[0] for _, pair in batch], [torch.as_tensor(pair[1]) for _, pair in batch]
        cache, length = prefixes.read(keys, features, openings.pop())
        start = self.config.decoder_start_token_id
        tails = [torch.tensor([*tail, start]) for _, tail in prompts]
        ids = pad_sequence(tails, batch_first=True, padding_side="left").to(self.device)
        own = pad_sequence([torch.ones_like(tail) for tail in tails], batch_first=True, padding_side="left")
        mask = torch.cat([own.new_ones(len(batch), length), own], dim=1).to(self.device)
        answers = self._decode(ids, mask, cache, config)
        return [(position, *answers[row]) for row, (position, _) in enumerate(batch)]

    def _split(self, ids: list[int] | None) -> tuple[tuple[int, ...], list[int]]:
        """Split a prompt into the tokens before the audio and those after it."""
        if not ids or self.config.audio_token_id not in ids:
            raise ValueError("a prompt has no place for the audio: build it with MertLMProcessor.prompt_ids")
        first = ids.index(self.config.audio_token_id)
        return tuple(ids[:first]), ids[first + self.config.audio_positions :]

    def _decode(
        self, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache, config: GenerationConfig
    ) -> dict[int, tuple[list[int], float]]:
        """Decode greedily; returns each row's answer and score.

        ids: (rows, tokens) behind the cache. mask: (rows, cached and new). Rows that have ended leave the batch.
        """
        ends = torch.tensor(end_tokens(config), device=ids.device)
        rows = list(range(len(ids)))
        tokens: list[list[int]] = [[] for _ in rows]
        totals = [0.0 for _ in rows]
        for _ in range(config.max_new_tokens):
            logits = self.read_on(self.get_input_embeddings()(ids), cache, mask)
            best, chosen = logits.float().log_softmax(dim=-1).max(dim=-1)
            for row, token, gain in zip(rows, chosen.tolist(), best.tolist(), strict=True):
                tokens[row].append(token)
                totals[row] += gain
            going = ~torch.isin(chosen, ends)
            if not going.all():
                keep = going.nonzero()[:, 0]
                if not len(keep):
                    break
                cache.batch_select_indices(keep)
                rows, chosen, mask = [rows[index] for index in keep.tolist()], chosen[keep], mask[keep]
            ids, mask = chosen[:, None], torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        return {row: (tokens[row], totals[row] / len(tokens[row])) for row in range(len(tokens))}

    def read_on(self, embeds: torch.Tensor, cache: DynamicCache, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Read embeddings (rows, new, width) behind a cache, which grows by them; returns the last logits.

        mask: (rows, cached and new); all ones where it is not given.
        """
        if mask is None:
            mask = torch.ones(len(embeds), cache.get_seq_length() + embeds.shape[1], dtype=torch.long)
            mask = mask.to(embeds.device)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -embeds.shape[1] :]
        # By position: the cache's argument has another name in newer versions of transformers.
        hidden = self.language_model.model(None, mask, positions, cache, embeds.to(self.dtype), use_cache=True)
        return self.get_output_embeddings()(hidden.last_hidden_state[:, -1])

    def _answer_by_generate(
        self, batch: list[Numbered], config: GenerationConfig, prefixes: PrefixCache, objects: dict[str, Any]
    ) -> list[Answer]:
        """Answer with beams, sampling and all else, by transformers' own loop; a clip is encoded once a batch."""
        clips = {pair[0]: torch.as_tensor(pair[1]) for _, pair in batch}
        index = {key: number for number, key in enumerate(clips)}
        prompts = [torch.tensor(pair[2]) for _, pair in batch]
        masks = [torch.ones_like(prompt) for prompt in prompts]
        outputs: dict[str, Any] = {"return_dict_in_generate": True, "output_logits": True, "output_scores": True}
        result = self.generate(
            generation_config=config,
            input_features=torch.stack(list(clips.values())).to(self.device),
            clip_index=torch.tensor([index[pair[0]] for _, pair in batch], device=self.device),
            prompt_input_ids=pad_sequence(prompts, batch_first=True, padding_side="left").to(self.device),
            prompt_attention_mask=pad_sequence(masks, batch_first=True, padding_side="left").to(self.device),
            **outputs,
            **objects,
        )
        answers = [cut(tokens, end_tokens(config)) for tokens in result.sequences.tolist()]
        scores = normalised_scores(result, answers)
        positions = [position for position, _ in batch]
        return list(zip(positions, answers, scores, strict=True))


def take_repetition_penalty(config: GenerationConfig) -> LogitsProcessorList:
    """Move the repetition penalty out of `config` into a processor of our own.

    Works around transformers 5.24, which skips the first N generated tokens in repetition_penalty, N being the row's
    left padding.
    """
    penalty, config.repetition_penalty = config.repetition_penalty, 1.0
    return LogitsProcessorList([] if penalty in (None, 1.0) else [RepetitionPenaltyLogitsProcessor(penalty)])


def is_greedy(config: GenerationConfig) -> bool:
    """Return whether the settings ask for nothing but the likeliest token each time."""
    values = config.to_diff_dict()
    return all(name in KNOWN and (not KNOWN[name] or value in KNOWN[name]) for name, value in values.items())


def end_tokens(config: GenerationConfig) -> list[int]:
    """Return the tokens that end an answer."""
    return config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]


def normalised_scores(result: Any, answers: list[list[int]]) -> list[float]:
    """Compute the length-normalised log probability of each answer of a result of `generate`."""
    if "sequences_scores" in result:
        return result.sequences_scores.tolist()
    log_probs = torch.stack(result.logits, dim=1).float().log_softmax(dim=-1)
    chosen = log_probs.gather(2, result.sequences[:, :, None])[:, :, 0]
    return [float(row[: len(answer)].mean()) for row, answer in zip(chosen, answers, strict=True)]


def cut(tokens: list[int], ends: list[int]) -> list[int]:
    """Cut tokens behind the first that ends the answer."""
    stops = [index for index, token in enumerate(tokens) if token in ends]
    return tokens[: stops[0] + 1] if stops else tokens


class MertLMDecisionMixin(MusicDecisionMixin, Base):
    """The methods of `MertLMForConditionalGeneration` for typed questions."""

    def audio_layers(self) -> dict[str, nn.Module]:
        """Return the last layer of the projector and of its branch, by which the model's weights are known."""
        projection, branch = self.projector.projection, self.projector.branch
        last = projection[-1] if isinstance(projection, nn.Sequential) else projection
        return {"projector": last} | ({} if branch is None else {"projector.branch": branch.output})

    def frozen_audio(self) -> dict[str, nn.Module]:
        """Return the encoder, for which another one of the same width might stand in."""
        return {"audio_encoder": self.audio_encoder}

    @torch.no_grad()
    def score_options(
        self, input_features: torch.Tensor, prompts: list[list[list[int]]], trees: list[AnswerTree]
    ) -> list[torch.Tensor]:
        """Return log-probabilities (windows, options) of each question, averaged over its wordings.

        prompts: question → wordings → token ids. trees: the sentences that state each question's options.
        """
        heard = self._states_of(input_features)
        audio, states = self.get_audio_features(heard), read_hidden(self.read_probed(heard), trees)
        prefixes, begun, scores = PrefixCache(self), {}, []
        for wordings, tree in zip(prompts, trees, strict=True):
            tails: defaultdict[tuple[int, ...], list[list[int]]] = defaultdict(list)
            for opening, tail in map(self._split, wordings):
                tails[opening].append(tail)
                if opening not in begun:
                    begun[opening] = prefixes.read_audio(audio, opening)
            sums = torch.cat([
                torch.cat([part.read_paths(self._read_trees(begun[one], tails[one], part)) for one in tails])
                for part in tree.split()
            ], dim=1)  # fmt: skip
            options = tree.gather(sums, states.repeat(len(wordings), 1)).log_softmax(dim=1)
            scores.append(options.unflatten(0, (len(wordings), len(audio))).mean(dim=0))
        return scores

    @torch.no_grad()
    def read_probed(self, input_features: torch.Tensor) -> torch.Tensor:
        """Return what probes read of each window: pooled audio embeddings, then the encoder's own pooled states, to
        which hidden units may be put.

        The language model is told less than the encoder hears.
        """
        heard = self._states_of(input_features)
        return torch.cat([pool_states(self.get_audio_features(heard)), self.pool_audio(heard).float()], dim=1)

    def _states_of(self, input_features: torch.Tensor) -> torch.Tensor:
        features = input_features.to(self.device)
        return features if features.ndim == 4 else self.encode_audio(features)

    def _read_trees(self, begun: torch.Tensor, tails: list[list[int]], tree: AnswerTree) -> torch.Tensor:
        """Read wordings behind each clip's states, and the tree behind each, in one pass.

        begun: from `read_audio`. tails: tokens behind the audio. Returns log-probabilities
        (wordings × clips, nodes, vocabulary).
        """
        clips, known, longest = begun.shape[2], begun.shape[4], max(map(len, tails))
        rows = [lay_out(tail, longest, tree, self.config.decoder_start_token_id) for tail in tails]
        ids, positions, visible = (torch.stack(parts).to(self.device) for parts in zip(*rows, strict=True))
        visible = nn.functional.pad(visible, (known, 0), value=True)[:, None]
        blocked = torch.zeros(visible.shape, dtype=self.dtype, device=self.device)
        blocked.masked_fill_(~visible, torch.finfo(self.dtype).min)
        # By position: the cache's argument has another name in newer versions of transformers.
        hidden = self.language_model.model(
            None,
            blocked.repeat_interleave(clips, dim=0),
            (known + positions).repeat_interleave(clips, dim=0),
            as_cache(begun.repeat(1, 1, len(tails), 1, 1, 1)),
            self.get_input_embeddings()(ids).to(self.dtype).repeat_interleave(clips, dim=0),
            use_cache=True,
        ).last_hidden_state[:, longest:]
        return self.get_output_embeddings()(hidden).float().log_softmax(dim=-1)


def lay_out(
    tail: list[int], longest: int, tree: AnswerTree, start: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return tokens and positions (longest + nodes,) of a wording's end and the tree behind it, and which see which.

    Between both lies padding, up to `longest` tokens, which nothing sees.
    """
    asked, size = len(tail), longest + len(tree.tokens)
    tokens = torch.cat([torch.tensor(tail + [start] * (longest - asked)), tree.tokens])
    tokens[longest] = start
    visible = torch.ones(size, size, dtype=torch.bool).tril()
    visible[longest:, longest:] = tree.visible
    visible[:, asked:longest] = False
    return tokens, torch.cat([torch.arange(longest), asked + tree.depths]), visible


__all__ = ["MertLMDecisionMixin", "MertLMGenerationMixin"]
