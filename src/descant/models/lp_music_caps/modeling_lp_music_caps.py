"""BART with audio: convolutions over a log-mel, an instruction prompt before them, BART around both.

Also its loss, which makes no logits, and the mixin by which it loads and saves adapters.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn
from transformers import BartForConditionalGeneration, FeatureExtractionMixin, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.utils import can_return_tuple

from .configuration_lp_music_caps import LPMusicCapsConfig, default_generation_config
from .generation_lp_music_caps import LPMusicCapsDecisionMixin, LPMusicCapsGenerationMixin
from .packed_bart_lp_music_caps import FastEncoder

if TYPE_CHECKING:  # the class that the methods are mixed into
    from transformers import PreTrainedModel as Base
else:
    Base = object

IGNORED = -100
ROWS_AT_ONCE = 512


def linear_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Sum over positions of `(1 − ε)·NLL + ε·mean over the vocabulary of −log p`, in float32.

    Args:
        hidden: states (positions, d_model) that the head turns into logits.
        weight, bias: the head's, (vocabulary, d_model) and (1, vocabulary).
        labels: token ids (positions,); those of −100 do not count.
        smoothing: ε. The form is that of Szegedy et al. 2016 (arXiv 1512.00567, section 7).
    """
    if hidden.device.type == "cpu":  # on an accelerator, choosing positions would make the host wait for it
        counted = labels.ne(IGNORED)
        hidden, labels = hidden[counted], labels[counted]
    return _apply(hidden, weight, bias, labels, smoothing)


@torch.compiler.disable
def _apply(*inputs: Any) -> torch.Tensor:
    return _LinearCrossEntropy.apply(*inputs)


class _LinearCrossEntropy(torch.autograd.Function):
    """Loss and gradients in one pass over slices of the positions.

    A slice's logits are laid out (vocabulary, positions): with BART's odd vocabulary, rows of logits would start at
    addresses for which matrix products are half as fast.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        labels: torch.Tensor,
        smoothing: float,
    ) -> torch.Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        head = _Head(weight.to(dtype), bias, smoothing)
        states_grad = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        weight_grad = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        total = hidden.new_zeros((), dtype=torch.float32)
        with torch.autocast(device, enabled=False):
            for start in range(0, len(hidden), ROWS_AT_ONCE):
                part = slice(start, start + ROWS_AT_ONCE)
                total += head.loss(hidden[part].to(dtype), labels[part])
                if states_grad is not None:
                    states_grad[part] = head.states_gradient()
                if weight_grad is not None:
                    head.add_weight_gradient(weight_grad)
        ctx.save_for_backward(states_grad, None if weight_grad is None else weight_grad.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # In place, so that no second copy of the head is made; torch then refuses a second pass over the same graph.
        states, weight = (None if saved is None else saved.mul_(grad) for saved in ctx.saved_tensors)
        return states, weight, None, None, None


class _Head:
    """The head on one slice of positions at a time.

    The gradient by the logits is `softmax − (1 − ε)·onehot − ε / vocabulary`. Its last term is the same everywhere, so
    it is taken off the products, as the softmax's division is, and not off each of the logits.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, smoothing: float) -> None:
        self.weight, self.bias, self.smoothing = weight, bias.float().t(), smoothing
        self.mean_weight, self.mean_bias = weight.float().mean(dim=0), bias.float().mean()

    def loss(self, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Sum over `states` (positions, d_model); what the gradients need is kept for the two calls that follow."""
        counts = labels.ne(IGNORED)
        target = labels.clamp(min=0)[None]
        logits = (self.weight @ states.t()).float().add_(self.bias)  # (vocabulary, positions)
        peak = logits.amax(dim=0)
        logits.sub_(peak)
        right = logits.gather(0, target)[0]
        mean = states.float() @ self.mean_weight + self.mean_bias - peak
        powers = logits.exp_()
        norm = powers.sum(dim=0)
        losses = norm.log() - (1 - self.smoothing) * right - self.smoothing * mean
        powers.scatter_add_(0, target, (self.smoothing - 1) * norm[None])
        self.states, self.powers = states, powers.to(states.dtype)
        self.scale = (counts / norm)[:, None]  # of what is left of each position's softmax
        self.share = counts[:, None] * (self.smoothing / len(self.weight))
        return (losses * counts).sum()

    def states_gradient(self) -> torch.Tensor:
        spread = self.share * self.mean_weight * len(self.weight)
        return (self.powers.t() @ self.weight).float() * self.scale - spread

    def add_weight_gradient(self, total: torch.Tensor) -> None:
        scaled = (self.states.float() * self.scale).to(self.states.dtype)
        if scaled.dtype == total.dtype:
            total.addmm_(self.powers, scaled)
        else:
            total.add_(self.powers @ scaled)
        total.sub_((self.share * self.states.float()).sum(dim=0))


def build_sinusoids(length: int, channels: int, max_timescale: float = 10000.0) -> torch.Tensor:
    """Build Whisper's fixed positions (length, channels): the sines fill the first half, the cosines the second."""
    increment = math.log(max_timescale) / (channels // 2 - 1)
    inverse_timescales = torch.exp(-increment * torch.arange(channels // 2))
    angles = torch.arange(length)[:, None] * inverse_timescales[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class LPMusicCapsAudioEncoder(nn.Module):
    """Log-mel (batch, 128, 1001) to embeddings (batch, 32, d_model)."""

    def __init__(self, config: LPMusicCapsConfig) -> None:
        super().__init__()
        width = config.d_model
        self.activation = ACT2FN["gelu"]
        self.conv1 = nn.Conv1d(config.num_mel_bins, width, kernel_size=3, padding=1)
        self.conv_stack = nn.ModuleList(
            nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1) for _ in range(config.num_strided_convs)
        )
        # Not saved, so left uninitialised by from_pretrained: _init_weights fills it.
        self.sinusoids = nn.Buffer(build_sinusoids(config.audio_positions, width), persistent=False)

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        """Encode log-mels (batch, bands, frames) as embeddings (batch, positions, d_model)."""
        hidden_states = self.activation(self.conv1(input_features))  # (batch, d_model, frames)
        for conv in self.conv_stack:
            hidden_states = self.activation(conv(hidden_states))
        return hidden_states.transpose(1, 2) + self.sinusoids  # (batch, positions, d_model)


def init_audio_weights(model: PreTrainedModel, module: nn.Module) -> None:
    """Fill the modules of an audio encoder that are not loaded."""
    if isinstance(module, nn.Conv1d):
        # torch's own initialisation, as the reference's, not BART's normal: it keeps the scale of the signal.
        bound = 1 / math.sqrt(module.in_channels * module.kernel_size[0])
        init.uniform_(module.weight, -bound, bound)
        init.uniform_(module.bias, -bound, bound)
    elif isinstance(module, LPMusicCapsAudioEncoder):
        init.copy_(module.sinusoids, build_sinusoids(*module.sinusoids.shape))


class LoadingInfo(dict):
    """What loading left out, by kind: `from_pretrained` returns it where it is asked for loading information."""

    def __init__(self, missing_keys: set[str] | None = None) -> None:
        empty: dict[str, Any] = {"unexpected_keys": set(), "mismatched_keys": set(), "error_msgs": []}
        super().__init__(missing_keys=missing_keys or set(), **empty)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, as transformers asks of what its `load_adapter` returns."""
        return dict(self)


class AdapterMixin(Base):
    """Loads, saves and switches adapters through peft's own PeftModel.

    The methods of transformers (5.24) for this refuse every version of peft that has been released.
    """

    _adapted: tuple[Any, ...] = ()  # a PeftModel, which as an attribute would be a submodule

    @property
    def peft_model(self) -> Any:
        """The PeftModel around this one, to train, merge or unload an adapter; None where no adapter was loaded."""
        return self._adapted[0] if self._adapted else None

    def load_adapter(
        self,
        peft_model_id: str | None = None,
        adapter_name: str | None = None,
        is_trainable: bool = False,
        adapter_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> LoadingInfo:
        """Load an adapter by folder or Hub id into the layers that it adapts, frozen unless `is_trainable`.

        adapter_kwargs: how to fetch files. Raises ValueError for an adapter of prompts, which changes no layers.
        """
        if peft_model_id is None:  # weights that are at hand already
            return super().load_adapter(None, adapter_name, is_trainable=is_trainable, **kwargs)
        try:  # guarded, or transformers would ask for peft wherever a published model is loaded
            from peft import PeftConfig, PeftModel
        except ImportError as error:
            raise ImportError(f"{peft_model_id} is an adapter, which takes peft: pip install peft") from error
        name, hub = adapter_name or "default", adapter_kwargs or {}
        if self.peft_model is None:
            config = PeftConfig.from_pretrained(peft_model_id, **hub)
            if config.is_prompt_learning:
                raise ValueError(f"{peft_model_id} adapts prompts: load it by PeftModel.from_pretrained(model, …)")
            config.inference_mode = not is_trainable
            self._adapted = (PeftModel(self, config, name, autocast_adapter_dtype=is_trainable),)
        how = {"torch_device": str(self.device), "autocast_adapter_dtype": is_trainable}
        result = self.peft_model.load_adapter(peft_model_id, name, is_trainable, **how, **hub)
        return LoadingInfo({key.removeprefix("base_model.model.") for key in result.missing_keys})

    def merge_adapter(self) -> Self:
        """Add a loaded adapter's matrices to the layers that it adapts, and return the plain model."""
        if self.peft_model is not None:
            self.peft_model.merge_and_unload()
            self._adapted = ()
        return self

    def disable_adapters(self) -> None:
        """Answer as the model without its adapters does."""
        self.peft_model.base_model.disable_adapter_layers()

    def enable_adapters(self) -> None:
        """Undo `disable_adapters`."""
        self.peft_model.base_model.enable_adapter_layers()

    def save_pretrained(self, save_directory: str | Path, is_main_process: bool = True, **kwargs: Any) -> None:
        """Save as transformers does; of a model with an adapter, the adapter and what it needs to be loaded."""
        if self.peft_model is None:
            super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
            return
        if kwargs.get("push_to_hub"):
            raise ValueError("push_to_hub=True saves no adapter: call model.push_to_hub, or push the saved folder")
        state_dict = kwargs.get("state_dict")
        self.peft_model.save_pretrained(save_directory, is_main_process=is_main_process, state_dict=state_dict)
        if is_main_process:
            self.save_beside_adapter(str(save_directory))


class LPMusicCapsForConditionalGeneration(
    LPMusicCapsDecisionMixin, AdapterMixin, LPMusicCapsGenerationMixin, BartForConditionalGeneration
):
    """Answers a question about a clip of music, or captions it where there is no question."""

    config_class = LPMusicCapsConfig
    main_input_name = "input_features"
    input_modalities = ("audio", "text")
    accepts_loss_kwargs = True
    # What LoRA adapts (a regular expression over module names), and what is trained whole beside it.
    lora_target_modules = r".*\.layers\.\d+\.(self_attn|encoder_attn)\.(q_proj|k_proj|v_proj|out_proj)"
    lora_modules_to_save = ("audio_encoder",)

    def __init__(self, config: LPMusicCapsConfig) -> None:
        super().__init__(config)
        self.audio_encoder = LPMusicCapsAudioEncoder(config)
        self.post_init()
        self.generation_config = default_generation_config(config)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        init_audio_weights(self, module)

    def save_beside_adapter(self, folder: str) -> None:
        """Save nothing: an adapter is loaded onto the model folder that it names."""

    def cached_features(self, feature_extractor: FeatureExtractionMixin) -> FeatureExtractionMixin:
        """Return what computes the features that are kept of every clip: the log-mel, since the convolutions train."""
        return feature_extractor

    def get_audio_features(self, input_features: torch.Tensor) -> torch.Tensor:
        """Encode log-mels (clips, 128, 1001) to audio embeddings (clips, 32, d_model), without the question."""
        expected = (self.config.num_mel_bins, self.config.audio_frames)
        if input_features.ndim != 3 or tuple(input_features.shape[1:]) != expected:
            raise ValueError(
                f"input_features has shape {tuple(input_features.shape)}, the model needs (clips, {expected[0]}, "
                f"{expected[1]}): make it with LPMusicCapsProcessor"
            )
        return self.audio_encoder(input_features.to(self.audio_encoder.conv1.weight.dtype))

    def pool_audio(self, input_features: torch.Tensor) -> torch.Tensor:
        """Return one vector of each clip, (clips, d_model): the mean of its audio embeddings."""
        return self.get_audio_features(input_features).mean(dim=1)

    def pack_inputs(
        self,
        audio_embeds: torch.Tensor,
        prompt_input_ids: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        clip_index: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put each row's prompt before its audio and all padding at the end.

        So a row's positions do not depend on its batch. Returns embeddings (batch, length, d_model) and their mask
        (batch, length). The mask says what is prompt, never the ids: pipelines pad ids with 0.
        """
        if clip_index is not None:
            audio_embeds = audio_embeds[clip_index]
        audio_mask = torch.ones(audio_embeds.shape[:2], dtype=torch.long, device=audio_embeds.device)
        if prompt_input_ids is None:
            return audio_embeds, audio_mask
        if prompt_input_ids.shape[0] != audio_embeds.shape[0]:
            raise ValueError(
                f"{prompt_input_ids.shape[0]} prompts for {audio_embeds.shape[0]} clips: give one a clip, or "
                "clip_index, the clip of each prompt"
            )
        if prompt_attention_mask is None:
            prompt_attention_mask = torch.ones_like(prompt_input_ids)
        prompt_embeds = self.model.encoder.embed_tokens(prompt_input_ids)
        mask = torch.cat([prompt_attention_mask.to(audio_mask), audio_mask], dim=1)
        embeds = torch.cat([prompt_embeds, audio_embeds.to(prompt_embeds.dtype)], dim=1)
        # Where each position moves: the visible ones to the start, both kinds in their order. A sort does not export.
        visible = mask.cumsum(dim=1)
        target = torch.where(mask.bool(), visible - 1, visible[:, -1:] + (1 - mask).cumsum(dim=1) - 1)
        columns = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        order = torch.zeros_like(mask).scatter(1, target, columns)
        return embeds.gather(1, order[..., None].expand_as(embeds)), mask.gather(1, order)

    def encode(
        self,
        input_features: torch.Tensor | None = None,
        prompt_input_ids: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        clip_index: torch.Tensor | None = None,
        audio_embeds: torch.Tensor | None = None,
        encoder: FastEncoder | None = None,
        **kwargs: Any,
    ) -> tuple[BaseModelOutput, torch.Tensor]:
        """Encode questions and clips; returns the encoder's output and the mask (batch, length) of its positions.

        encoder: the model's own without it.
        """
        clips = [audio_embeds] if audio_embeds is not None else []
        clips += [self.get_audio_features(input_features)] if input_features is not None else []
        if len(clips) != 1:
            raise ValueError("pass either input_features or audio_embeds (from get_audio_features)")
        embeds, mask = self.pack_inputs(clips[0], prompt_input_ids, prompt_attention_mask, clip_index)
        limit = self.config.max_position_embeddings
        if embeds.shape[1] > limit:
            raise ValueError(
                f"question and audio take {embeds.shape[1]} positions, the model has {limit}: shorten the question"
            )
        encoder = encoder or self.model.encoder
        return encoder(inputs_embeds=embeds, attention_mask=mask, return_dict=True, **kwargs), mask

    @can_return_tuple
    def forward(
        self,
        input_features: torch.Tensor | None = None,
        prompt_input_ids: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        clip_index: torch.Tensor | None = None,
        audio_embeds: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple | None = None,
        attention_mask: torch.Tensor | None = None,
        cache: Cache | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        label_smoothing: float | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Predict the next token at every position of the answer.

        input_features: (clips, 128, 1001), or audio_embeds (clips, 32, d_model) from `get_audio_features`.
        prompt_input_ids, prompt_attention_mask: (batch, longest question); none asks for a caption.
        labels: (batch, answer), -100 where nothing is to be predicted; decoder_input_ids are made from them.
        clip_index: (batch,), the clip of each row; without it there is one clip a row.
        encoder_outputs with attention_mask (batch, length): from `encode`, instead of clips and prompts.
        cache (up to transformers 5.23 past_key_values): the decoder's. input_ids: ignored beside prompt_input_ids.
        num_items_in_batch: target tokens of the whole batch, over processes and accumulated steps; the loss is the
            summed cross entropy over it, or the mean over this call's tokens without it.
        label_smoothing: with labels; the loss, smoothed so (or not, with 0), is all that is returned: training needs
            no logits, and those of a batch take more memory than the model.
        """
        kwargs = keep_given({"cache": cache, "past_key_values": past_key_values, **kwargs}, prompt_input_ids)
        if encoder_outputs is None:
            inputs = input_features, prompt_input_ids, prompt_attention_mask, clip_index, audio_embeds
            encoder_outputs, attention_mask = self.encode(*inputs, **keep_of_encoder(kwargs))
        if decoder_input_ids is None and "decoder_inputs_embeds" not in kwargs:
            if labels is None:
                raise ValueError("pass labels or decoder_input_ids, or call generate")
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        decoding = {
            "encoder_outputs": encoder_outputs,
            "attention_mask": attention_mask,
            "decoder_input_ids": decoder_input_ids,
            "decoder_attention_mask": decoder_attention_mask,
            "use_cache": False if labels is not None else use_cache,
            "return_dict": True,
            **kwargs,
        }
        if label_smoothing is not None and labels is not None:
            hidden_states = self.model(**decoding).last_hidden_state
            return Seq2SeqLMOutput(self.smoothed_loss(hidden_states, labels, label_smoothing, num_items_in_batch))
        outputs = super().forward(**decoding)
        if labels is not None:
            outputs["loss"] = self.compute_loss(outputs.logits, labels, num_items_in_batch)
        return outputs

    def smoothed_loss(
        self,
        hidden_states: torch.Tensor,
        labels: torch.Tensor,
        smoothing: float,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Label-smoothed cross entropy of the decoder's states (batch, answer, d_model), without their logits."""
        loss = linear_cross_entropy(
            hidden_states.flatten(0, 1), self.lm_head.weight, self.final_logits_bias, labels.flatten(), smoothing
        )
        return loss / (labels.ne(-100).sum() if num_items_in_batch is None else num_items_in_batch)

    @staticmethod
    def compute_loss(
        logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Cross entropy of logits (batch, answer, vocab) against labels (batch, answer); -100 does not count."""
        reduction = "mean" if num_items_in_batch is None else "sum"
        labels = labels.to(logits.device)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction=reduction)
        if isinstance(num_items_in_batch, torch.Tensor):
            num_items_in_batch = num_items_in_batch.to(loss.device)
        return loss if num_items_in_batch is None else loss / num_items_in_batch


def keep_given(arguments: dict[str, Any], prompts: torch.Tensor | None) -> dict[str, Any]:
    """Drop what libraries pass as None, and input_ids beside prompts; ValueError for another model's inputs."""
    given = {name: value for name, value in arguments.items() if value is not None}
    if prompts is not None:
        given.pop("input_ids", None)
    if foreign := sorted(given.keys() & {"input_ids", "inputs_embeds"}):
        raise ValueError(f"forward got {foreign[0]}: pass input_features and prompt_input_ids")
    return given


def keep_of_encoder(arguments: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is the decoder's alone."""
    of_decoder = ("decoder_", "cache", "past_key_values")
    return {name: value for name, value in arguments.items() if not name.startswith(of_decoder)}


class LPMusicCapsAudioModel(PreTrainedModel):
    """The audio encoder by itself, for models that join it to another language model."""

    config_class = LPMusicCapsConfig
    main_input_name = "input_features"
    input_modalities = ("audio",)
    _supports_sdpa = _supports_flash_attn = True  # it attends to nothing, so it suits whatever its neighbours use

    def __init__(self, config: LPMusicCapsConfig) -> None:
        super().__init__(config)
        self.audio_encoder = LPMusicCapsAudioEncoder(config)
        self.post_init()

    _init_weights = init_audio_weights

    @can_return_tuple
    def forward(self, input_features: torch.Tensor, output_hidden_states: bool | None = None) -> BaseModelOutput:
        """Encode log-mels (clips, 128, 1001) to states (clips, 32, d_model), the only ones that there are."""
        states = self.audio_encoder(input_features)
        return BaseModelOutput(last_hidden_state=states, hidden_states=(states,) if output_hidden_states else None)


LPMusicCapsForConditionalGeneration.register_for_auto_class("AutoModelForSeq2SeqLM")


__all__ = ["linear_cross_entropy", "LPMusicCapsAudioModel", "LPMusicCapsForConditionalGeneration"]
