"""A language model with audio: a frozen encoder's states, projected into the placeholders of its prompt.

Rows about one clip are packed into one sequence: the shared prompt once, then each row's own tokens, masked apart.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    FeatureExtractionMixin,
    GenerationConfig,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.dynamic_module_utils import custom_object_save
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import can_return_tuple

from .configuration_mert_lm import MertLMConfig, default_generation_config
from .feature_extraction_mert_lm import FrozenStates, bring_to, encode_states
from .generation_mert_lm import MertLMDecisionMixin, MertLMGenerationMixin
from .loading_mert_lm import OF_EVERY_REPOSITORY, OF_ONE_REPOSITORY, AdapterMixin, load_onto_parts, pick

HEAD, PADDING = -1, -2  # owners of positions that belong to no row


class MertLMBranch(nn.Module):
    """A hidden layer between states and embeddings, which may learn beside a projector that was trained before."""

    def __init__(self, inputs: int, width: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.input = nn.Linear(inputs, width)
        self.output = nn.Linear(width, outputs, bias=False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map standardised states (…, inputs) to what they add to the embeddings (…, outputs)."""
        return self.output(self.hidden(states))

    def hidden(self, states: torch.Tensor) -> torch.Tensor:
        """Map standardised states (…, inputs) to the hidden layer (…, width)."""
        return self.dropout(nn.functional.gelu(self.input(self.dropout(states))))


class MertLMProjector(nn.Module):
    """Mixes the encoder's hidden states and maps them to the language model's width; all that stage 1 trains."""

    def __init__(self, config: MertLMConfig) -> None:
        super().__init__()
        inputs, width = config.audio_config.hidden_size, config.text_config.hidden_size
        # Fitted by `standardise`; with these first values the states pass unchanged.
        self.mean = nn.Buffer(torch.zeros(inputs))
        self.spread = nn.Buffer(torch.ones(inputs))
        # Equal shares at first: softmax of zeros.
        self.layer_logits = nn.Parameter(torch.zeros(config.audio_states)) if config.layer_mix == "learned" else None
        self.tokens_per_state, outputs = config.tokens_per_state, config.tokens_per_state * width
        size = config.projector_size
        if config.projector == "mlp":
            size = size or width
            layers = (nn.LayerNorm(inputs), nn.Linear(inputs, size), nn.GELU(), nn.Linear(size, outputs))
            self.projection: nn.Module = nn.Sequential(*layers)
        elif size:
            self.projection = nn.Sequential(nn.Linear(inputs, size), nn.Linear(size, outputs))
        else:
            self.projection = nn.Linear(inputs, outputs)
        self.dropout = nn.Dropout(config.projector_dropout)
        branch = inputs, config.projector_branch, outputs, config.branch_dropout
        self.branch = MertLMBranch(*branch) if config.projector_branch else None

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map hidden states (clips, states, frames, inputs) to embeddings (clips, positions, width)."""
        standard = self.standard(states)
        embeds = self.projection(self.dropout(standard))
        if self.branch is not None:
            embeds = embeds + self.branch(standard)
        return embeds.unflatten(2, (self.tokens_per_state, -1)).flatten(1, 2)

    def standard(self, states: torch.Tensor) -> torch.Tensor:
        """Return the mixed states of each frame, standardised (clips, frames, inputs)."""
        return (self.mix(states) - self.mean) / self.spread

    def mix(self, states: torch.Tensor) -> torch.Tensor:
        """Mix the layers' states into one of each frame (clips, frames, inputs)."""
        if self.layer_logits is None:
            return states[:, 0]
        return torch.einsum("s,cspw->cpw", self.layer_logits.softmax(dim=0).to(states.dtype), states)

    @torch.no_grad()
    def standardise(self, states: torch.Tensor) -> None:
        """Give every channel mean 0 and variance 1 over the states of some clips (clips, states, frames, inputs).

        Most of an encoder's states is the same for all clips, and would drown what tells them apart.
        """
        mixed = self.mix(states).flatten(0, 1)
        self.mean.copy_(mixed.mean(dim=0))
        self.spread.copy_(mixed.std(dim=0).clamp(min=1e-5))


class MertLMForConditionalGeneration(
    MertLMDecisionMixin, AdapterMixin, MertLMGenerationMixin, PreTrainedModel, GenerationMixin
):
    """Answers a question about a clip of music, or captions it where there is no question.

    The audio encoder never trains; the language model trains through LoRA only, but for `text_frozen` false.
    """

    config_class = MertLMConfig
    main_input_name = "input_features"
    input_modalities = ("audio", "text")
    accepts_loss_kwargs = True
    supports_gradient_checkpointing = True
    # Not flash attention: rows of a clip share one sequence, in which a dense mask keeps them apart.
    _supports_sdpa = True
    # What LoRA adapts (a regular expression over module names), and what is trained whole beside it.
    lora_target_modules = r"language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    lora_modules_to_save = ("projector",)

    def __init__(
        self,
        config: MertLMConfig,
        audio_encoder: PreTrainedModel | None = None,
        language_model: PreTrainedModel | None = None,
    ) -> None:
        """Join two loaded parts, or build them from the configuration where they are not given."""
        super().__init__(config)
        # Labels stand where they are predicted. By the class name, Trainer would leave the first one out of its count.
        self.loss_type = None
        self.audio_encoder = audio_encoder or AutoModel.from_config(config.audio_config)
        self.language_model = language_model or AutoModelForCausalLM.from_config(config.text_config)
        self.projector = MertLMProjector(config)
        self.post_init()  # loaded weights, which are marked as such, stay as they are
        self.generation_config = default_generation_config(config)
        # What a call leaves open is filled in from this one: a chat model may penalise or sample by its own.
        ends = {"eos_token_id": config.eos_token_id, "pad_token_id": config.pad_token_id}
        self.language_model.generation_config = GenerationConfig(**ends)
        self.freeze_parts()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path | None,
        *model_args: Any,
        config: PreTrainedConfig | str | Path | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load as transformers does; a folder of trained weights alone is loaded onto the parts that it names.

        See `load_onto_parts` for what `kwargs` mean then; the parts are frozen either way.
        """
        source, known = pretrained_model_name_or_path, config
        if not isinstance(known, PreTrainedConfig):
            hub = pick(kwargs, OF_EVERY_REPOSITORY + OF_ONE_REPOSITORY)
            known = cls.config_class.from_pretrained(config or source, **hub)
        if known.text_model_id is None and known.audio_model_id is None:
            loaded = super().from_pretrained(source, *model_args, config=config, **kwargs)
        else:
            loaded = load_onto_parts(cls, str(source), known, **kwargs)
        # The parameters that loading puts in place of the constructor's are made to train.
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.freeze_parts()
        if source is not None:
            model.load_decisions(source, kwargs)
        return loaded

    def freeze_parts(self) -> None:
        """Leave the projector to train, and a language model that is not frozen: LoRA trains matrices of its own."""
        self.audio_encoder.requires_grad_(False)
        self.language_model.requires_grad_(not self.config.text_frozen)

    def save_pretrained(self, save_directory: str | Path, is_main_process: bool = True, **kwargs: Any) -> None:
        """Save as transformers does, without the frozen parts where the configuration says where they come from."""
        self._keys_to_ignore_on_save = self.frozen_keys()
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)

    def save_beside_adapter(self, folder: str) -> None:
        """Put what an adapter folder needs to be loaded by itself beside the adapter: the names of the parts.

        Without parts nothing is put there: the adapter is then loaded onto the model folder that it names.
        """
        if self.config.text_model_id is None:
            return
        custom_object_save(self, folder, config=self.config)
        self.config.save_pretrained(folder)
        self.generation_config.save_pretrained(folder)

    def frozen_keys(self) -> set[str]:
        """Return the names of the weights that are those of parts which the configuration names."""
        parts = {"audio_encoder.": self.config.audio_model_id, "language_model.": self.config.text_model_id}
        named = tuple(part for part, source in parts.items() if source)
        return {name for name in self.state_dict() if name.startswith(named) and "lora_" not in name}

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; the encoder is always evaluated: no dropout, no layer drop."""
        super().train(mode)
        self.audio_encoder.eval()
        return self

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, MertLMBranch):
            init.zeros_(module.output.weight)  # it adds nothing until it has learnt
        elif isinstance(module, MertLMProjector):
            init.zeros_(module.mean)
            init.ones_(module.spread)
            if module.layer_logits is not None:
                init.zeros_(module.layer_logits)
        else:
            super()._init_weights(module)

    def get_input_embeddings(self) -> nn.Module:
        """Return the language model's token embeddings."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's token embeddings."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Return the language model's vocabulary head."""
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's vocabulary head."""
        self.language_model.set_output_embeddings(value)

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Module:
        """Give the language model another vocabulary size; raises ValueError where it would not be saved."""
        if new_num_tokens is not None and self.config.text_model_id:
            raise ValueError(
                f"the language model is loaded from {self.config.text_model_id}, so its embeddings are not saved: set "
                "config.text_model_id and config.audio_model_id to None to save all weights"
            )
        embeddings = self.language_model.resize_token_embeddings(new_num_tokens, *args, **kwargs)
        self.config.text_config.vocab_size = self.language_model.config.vocab_size
        self.freeze_parts()  # the new matrices are made to train
        return embeddings

    def cached_features(self, feature_extractor: FeatureExtractionMixin) -> FrozenStates:
        """Return what computes the features that are kept of every clip: states of the encoder, which never trains."""
        return FrozenStates(self.audio_encoder, self.config, feature_extractor)

    def encode_audio(self, input_features: torch.Tensor) -> torch.Tensor:
        """Compute the encoder's pooled states (clips, states, frames, width) from what its extractor gives."""
        return encode_states(self.audio_encoder, self.config, input_features)

    def get_audio_features(self, input_features: torch.Tensor) -> torch.Tensor:
        """Encode what the feature extractor gives as embeddings (clips, positions, width).

        Also takes states from `encode_audio` (four axes), which a feature store keeps.
        """
        states = input_features if input_features.ndim == 4 else self.encode_audio(input_features)
        weight: Any = self.get_input_embeddings().weight
        return self.projector(bring_to(states, weight.device, weight.dtype))

    def pool_audio(self, input_features: torch.Tensor) -> torch.Tensor:
        """Return one vector of each clip, (clips, width of the encoder): the mean of its standardised states.

        The projector's embeddings say what the language model has to be told, which is less.
        """
        states = input_features if input_features.ndim == 4 else self.encode_audio(input_features)
        weight = self.projector.mean
        return self.projector.standard(bring_to(states, weight.device, weight.dtype)).mean(dim=1)

    def embed_prompts(
        self,
        prompt_input_ids: torch.Tensor,
        prompt_attention_mask: torch.Tensor,
        audio_embeds: torch.Tensor,
    ) -> torch.Tensor:
        """Embed prompts (batch, length, width), each row's audio (batch, positions, width) at its placeholders."""
        placeholders = prompt_attention_mask.bool() & (prompt_input_ids == self.config.audio_token_id)
        words = prompt_input_ids.masked_fill(placeholders | ~prompt_attention_mask.bool(), self.config.pad_token_id)
        embeds = self.get_input_embeddings()(words)
        return embeds.masked_scatter(placeholders[..., None], audio_embeds.to(embeds))

    @property
    def dtype(self) -> Any:
        """The dtype of the language model's weights."""
        return self.get_input_embeddings().weight.dtype

    @can_return_tuple
    def forward(
        self,
        input_features: torch.Tensor | None = None,
        prompt_input_ids: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        clip_index: torch.Tensor | None = None,
        audio_embeds: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        label_smoothing: float | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        output_hidden_states: bool | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Predict the next token at every position of the answer; `logits` are (batch, answer, vocabulary).

        input_features: clips as `get_audio_features` takes them, or its result as audio_embeds.
        prompt_input_ids, prompt_attention_mask: (batch, longest prompt), as the processor builds them.
        labels: (batch, answer), the answer and its end of turn, -100 where nothing is to be predicted.
        decoder_input_ids: (batch, answer), the token before each label; made from the labels where they are not given.
        clip_index: (batch,), the clip of each row; without it there is one clip a row. Rows of one clip share the
            prompt up to the end of the audio, and the work on it.
        num_items_in_batch: target tokens of the whole batch, over processes and accumulated steps.
        label_smoothing: with labels; the loss, smoothed so (or not, with 0), is all that is returned: no logits are
            made where nothing is to be predicted.
        logits_to_keep: how many of the last positions, or which ones, get logits; all for 0. Not with labels.
        output_hidden_states: return the language model's states at the answer, (batch, answer, width) a layer; by
            default as the configuration says.
        use_cache, input_ids (the prompt's): ignored, since an answer is read at once, behind its prompt.
        kwargs: None, as libraries pass arguments that they have no value for; raises ValueError for any other, such
            as output_attentions: rows of a clip share one sequence, so no row has attentions of its own.
        """
        kwargs.pop("input_ids", None)
        if given := [name for name, value in kwargs.items() if value is not None and value is not False]:
            raise ValueError(f"forward of {type(self).__name__} cannot follow {given[0]}={kwargs[given[0]]!r}")
        if input_features is not None:
            audio_embeds = self.get_audio_features(input_features)
        if audio_embeds is None or prompt_input_ids is None:
            raise ValueError("pass input_features or audio_embeds, and prompt_input_ids: MertLMProcessor builds them")
        if clip_index is None:
            clip_index = torch.arange(len(audio_embeds), device=audio_embeds.device)
        all_layers = bool(self.config.output_hidden_states if output_hidden_states is None else output_hidden_states)
        states = self.read_answers(
            audio_embeds, clip_index, prompt_input_ids, prompt_attention_mask, decoder_input_ids, labels,
            all_layers,
        )  # fmt: skip
        if label_smoothing is not None and labels is not None:
            loss = self.smoothed_loss(states[-1], labels, label_smoothing, num_items_in_batch)
            return CausalLMOutputWithPast(loss=loss)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.get_output_embeddings()(states[-1] if labels is not None else states[-1][:, kept])
        of_labels = None if labels is None else self.compute_loss(logits, labels, num_items_in_batch)
        return CausalLMOutputWithPast(loss=of_labels, logits=logits, hidden_states=states if all_layers else None)

    def read_answers(
        self,
        audio_embeds: torch.Tensor,
        clip_index: torch.Tensor,
        prompt_ids: torch.Tensor,
        prompt_mask: torch.Tensor | None,
        decoder_input_ids: torch.Tensor | None,
        labels: torch.Tensor | None,
        all_layers: bool = False,
    ) -> tuple[torch.Tensor, ...]:
        """Return the language model's last states (batch, answer, width) at the token before each label, or those of
        all its layers. Rows of a clip are read in one sequence, without padding.
        """
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("pass labels or decoder_input_ids, or call generate")
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        is_answer = torch.ones_like(decoder_input_ids) if labels is None else up_to_last(labels.ne(-100))
        mask = torch.ones_like(prompt_ids) if prompt_mask is None else prompt_mask
        prompts = split_prompts(prompt_ids, mask, self.config.audio_token_id)
        heads = self.embed_prompts(prompts.head_ids, prompts.head_mask, audio_embeds[clip_index])
        tails = self.get_input_embeddings()(torch.cat([prompts.tail_ids, decoder_input_ids], dim=1))
        tail_mask = torch.cat([prompts.tail_mask, is_answer], dim=1)
        packed = pack_rows(heads, tails, tail_mask, clip_index, len(audio_embeds))
        outputs = self.language_model.model(
            inputs_embeds=packed.embeds, attention_mask=packed.mask, position_ids=packed.positions, use_cache=False,
            output_hidden_states=all_layers,
        )  # fmt: skip
        layers = outputs.hidden_states if all_layers else [outputs.last_hidden_state]
        return tuple(packed.rows(hidden)[:, -decoder_input_ids.shape[1] :] for hidden in layers)

    def smoothed_loss(
        self, states: torch.Tensor, labels: torch.Tensor, smoothing: float, num_items: torch.Tensor | int | None
    ) -> torch.Tensor:
        """Label-smoothed cross entropy of states (batch, answer, width), from the logits of counted labels alone."""
        counted = labels.ne(-100)
        logits = self.get_output_embeddings()(states[counted]).float()
        loss = nn.functional.cross_entropy(logits, labels[counted], label_smoothing=smoothing, reduction="sum")
        return loss / (len(logits) if num_items is None else num_items)

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the token before each label: the prompt's last one, then the answer."""
        shifted = labels.new_full(labels.shape, self.config.decoder_start_token_id)
        shifted[:, 1:] = labels[:, :-1]
        return shifted.masked_fill(shifted == -100, self.config.pad_token_id)

    @staticmethod
    def compute_loss(
        logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Cross entropy of logits (batch, answer, vocab) against labels (batch, answer); -100 does not count."""
        reduction = "mean" if num_items_in_batch is None else "sum"
        loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction=reduction)
        return loss if num_items_in_batch is None else loss / num_items_in_batch


MertLMForConditionalGeneration.register_for_auto_class("AutoModelForMultimodalLM")


@dataclass(frozen=True)
class SplitPrompts:
    """Prompts cut behind the audio: heads of one length, tails padded at their start."""

    head_ids: torch.Tensor  # (rows, head)
    head_mask: torch.Tensor
    tail_ids: torch.Tensor  # (rows, longest tail)
    tail_mask: torch.Tensor


def split_prompts(ids: torch.Tensor, mask: torch.Tensor, audio_token_id: int) -> SplitPrompts:
    """Cut prompts (rows, length), padded anywhere, behind the last placeholder of the audio.

    Raises ValueError where a prompt has no placeholder, or not the same tokens before it as the others have.
    """
    order = mask.argsort(dim=1, stable=True)  # all padding to the start
    ids, mask = ids.gather(1, order), mask.gather(1, order)
    is_audio = (ids == audio_token_id) & mask.bool()
    starts = (mask == 0).sum(dim=1)
    ends = ids.shape[1] - is_audio.flip(1).int().argmax(dim=1)
    head = int((ends - starts)[0])
    if not bool((is_audio.any(dim=1) & (ends - starts == head)).all()):
        raise ValueError("the prompts differ before the end of the audio: build them with MertLMProcessor")
    head_ids = ids.gather(1, starts[:, None] + torch.arange(head, device=ids.device))
    tail = ids.shape[1] - head
    columns = torch.arange(head, ids.shape[1], device=ids.device)
    tail_mask = (columns >= ends[:, None]).long()
    longest = int(tail_mask.sum(dim=1).max()) if tail else 0
    tail_mask, tail_ids = tail_mask[:, tail - longest :], ids[:, ids.shape[1] - longest :]
    return SplitPrompts(head_ids, torch.ones_like(head_ids), tail_ids * tail_mask, tail_mask)


@dataclass(frozen=True)
class PackedRows:
    """Sequences (clips, length) for a causal language model, as long as the longest clip's head and tails."""

    embeds: torch.Tensor  # (clips, length, width)
    mask: torch.Tensor  # (clips, 1, length, length), 0 where a position may look, else the dtype's minimum
    positions: torch.Tensor  # (clips, length)
    clip_index: torch.Tensor  # (rows,)
    columns: torch.Tensor  # (rows, tail), the column of each token of a row's tail in its clip's sequence

    def rows(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the states of each row's tail (rows, tail, width); anything where it is padding."""
        return hidden[self.clip_index[:, None], self.columns]


def pack_rows(
    heads: torch.Tensor, tails: torch.Tensor, tail_mask: torch.Tensor, clip_index: torch.Tensor, clips: int
) -> PackedRows:
    """Put the rows of each clip into one sequence: the head that they share, then their tails without padding.

    heads: (rows, head, width), equal for rows of a clip. tails: (rows, tail, width). tail_mask: (rows, tail), 0 where
    a tail is padding.
    """
    head, is_token = heads.shape[1], tail_mask.bool()
    lengths, inside = is_token.sum(dim=1), is_token.cumsum(dim=1) - 1
    earlier = (clip_index[:, None] == clip_index[None, :]).tril(-1)
    # The shared head is taken from one row only; otherwise its gradient is counted once per row.
    first = ~earlier.any(dim=1)
    starts = head + (earlier * lengths).sum(dim=1)
    columns = starts[:, None] + inside.clamp(min=0)
    length = int((starts + lengths).max())
    taken = (clip_index[:, None].expand_as(columns)[is_token], columns[is_token])
    shared = heads.new_zeros(clips, head, heads.shape[2]).index_put((clip_index[first],), heads[first])
    embeds = nn.functional.pad(shared, (0, 0, 0, length - head)).index_put(taken, tails[is_token])
    positions = torch.arange(length, device=heads.device).repeat(clips, 1)
    owners = torch.where(positions < head, HEAD, PADDING)
    owners[taken] = torch.arange(len(tails), device=heads.device)[:, None].expand_as(columns)[is_token]
    positions[taken] = (head + inside)[is_token]
    return PackedRows(embeds, block_mask(owners, heads.dtype), positions, clip_index, columns.clamp(max=length - 1))


def block_mask(owners: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Build the mask by which positions attend to the head and to their own row; owners: (clips, length)."""
    seen = (owners[:, None, :] == HEAD) | (owners[:, None, :] == owners[:, :, None])
    blocked = torch.zeros(seen.shape, dtype=dtype, device=owners.device)
    return blocked.masked_fill(~seen.tril(), torch.finfo(dtype).min)[:, None]


def up_to_last(counted: torch.Tensor) -> torch.Tensor:
    """Return 1 up to the last true element of each row (rows, tokens), 0 behind it."""
    return (counted.flip(1).cumsum(dim=1).flip(1) > 0).long()


__all__ = ["MertLMBranch", "MertLMForConditionalGeneration", "MertLMProjector"]
