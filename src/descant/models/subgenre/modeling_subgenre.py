"""The subgenre classifier: a text encoder over lyrics and captions, an audio embedding, labels in a tree."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput, ModelOutput
from transformers.utils import can_return_tuple

from .configuration_subgenre import MODALITIES, SubgenreConfig
from .fusion_subgenre import Fused, SubgenreCrossAttention, SubgenreLateFusion, equal_weights

if TYPE_CHECKING:  # the class that the methods are mixed into
    from transformers import PreTrainedModel as Base
else:
    Base = object

FUSIONS = {"late": SubgenreLateFusion, "cross_attention": SubgenreCrossAttention}
WINDOWS_AT_ONCE = 128  # encoded in one go outside of training, so that a text of any length fits into memory


@dataclass
class SubgenreOutput(ModelOutput):
    """`logits` (tracks, labels): their sigmoids are probabilities, genres first, no subgenre's above its genre's."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None  # the text encoder's, (windows, tokens, width) each
    attentions: tuple[torch.Tensor, ...] | None = None


class SubgenreAudioProjection(nn.Module):
    """Maps the captioner's embedding, scaled as the training tracks' embeddings are, to the width of the others.

    The scale is part of this module, because it is trained and saved whole beside LoRA's matrices.
    """

    def __init__(self, config: SubgenreConfig) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(config.audio_dim))
        self.std = nn.Buffer(torch.ones(config.audio_dim))
        self.dropout = nn.Dropout(config.audio_dropout)
        if config.audio_hidden_size:
            width, dropout = config.audio_hidden_size, nn.Dropout(config.audio_dropout)
            layers = (nn.Linear(config.audio_dim, width), nn.GELU(), dropout, nn.Linear(width, config.hidden_size))
            self.output: nn.Module = nn.Sequential(*layers)
        else:
            self.output = nn.Linear(config.audio_dim, config.hidden_size)

    @torch.no_grad()
    def fit_scale(self, embeds: torch.Tensor) -> None:
        """Fit mean and deviation to embeddings (tracks, audio_dim); channels that do not vary are left as they are."""
        self.mean.copy_(embeds.mean(dim=0))
        std = embeds.std(dim=0, correction=0)
        self.std.copy_(torch.where(std > 1e-6, std, 1.0))

    def forward(self, embeds: torch.Tensor) -> torch.Tensor:
        """Map embeddings (tracks, audio_dim) to (tracks, hidden)."""
        return self.output(self.dropout((embeds.to(self.mean.dtype) - self.mean) / self.std))


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


class SubgenreForSequenceClassification(AdapterMixin, PreTrainedModel):
    """Classifies tracks by genres and subgenres from lyrics, captions and audio embedding, or some of them.

    A subgenre has the probability P(genre) · P(subgenre | genre).
    """

    config_class = SubgenreConfig
    base_model_prefix = "subgenre"
    main_input_name = "modality_mask"
    input_modalities = ("text", "audio")
    accepts_loss_kwargs = False  # the loss is a mean over tracks, whatever the number of items in a batch
    # As far as the text encoder has them, which is asked when it is built.
    supports_gradient_checkpointing = True
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True
    # What LoRA adapts (a regular expression over module names), and what is trained whole beside it.
    lora_target_modules = r"text_encoder\..*\.(query|key|value|[qkv]_lin|out_lin|[qkv]_proj|out_proj)"
    lora_modules_to_save = ("text_scores", "text_projection", "audio_projection", "fusion")

    def __init__(self, config: SubgenreConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.text_encoder = AutoModel.from_config(config.text_config)
        self.text_scores = nn.Linear(config.text_config.hidden_size, 2)  # one for lyrics, one for captions
        self.text_projection = nn.Linear(config.text_config.hidden_size, width)
        self.audio_projection = SubgenreAudioProjection(config)
        self.fusion = FUSIONS[config.fusion](config)
        self.register_buffer("parents", torch.tensor(config.parents, dtype=torch.long), persistent=False)
        self.post_init()
        self.freeze_pooler()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path | None, *args: Any, **kwargs: Any) -> Any:
        """Load as transformers does, and freeze again what does not train: loading makes parameters anew."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded).freeze_pooler()
        return loaded

    def freeze_pooler(self) -> None:
        """Freeze the text encoder's own pooling head, which is not used here, where it has one."""
        for name, parameter in self.text_encoder.named_parameters():
            if "pooler" in name.split("."):
                parameter.requires_grad_(False)

    def save_beside_adapter(self, folder: str) -> None:
        """Save nothing: an adapter is loaded onto the model folder that it names."""

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SubgenreCrossAttention):
            init.normal_(module.queries, std=0.1)
            init.zeros_(module.nothing)
            init.zeros_(module.kinds)
        elif isinstance(module, SubgenreLateFusion):
            init.copy_(module.weights, equal_weights(module.weights.shape[2]))
            init.zeros_(module.shifts)
        elif isinstance(module, SubgenreForSequenceClassification):
            init.copy_(module.parents, torch.tensor(module.config.parents, dtype=torch.long))
        elif isinstance(module, SubgenreAudioProjection):
            init.zeros_(module.mean)
            init.ones_(module.std)

    def get_input_embeddings(self) -> nn.Module:
        """Return the text encoder's token embeddings."""
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the text encoder's token embeddings."""
        self.text_encoder.set_input_embeddings(value)

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Module:
        """Give the text encoder another vocabulary size."""
        embeddings = self.text_encoder.resize_token_embeddings(new_num_tokens, *args, **kwargs)
        self.config.text_config.vocab_size = self.text_encoder.config.vocab_size
        return embeddings

    def fit_audio_scale(self, audio_embeds: torch.Tensor) -> None:
        """Fit the scale of audio embeddings to the training tracks' (tracks, audio_dim).

        Called before training, and before LoRA is added.
        """
        self.audio_projection.fit_scale(audio_embeds)

    @can_return_tuple
    def forward(
        self,
        modality_mask: torch.Tensor,
        audio_embeds: torch.Tensor | None = None,
        text_input_ids: torch.Tensor | None = None,
        text_attention_mask: torch.Tensor | None = None,
        text_row: torch.Tensor | None = None,
        text_kind: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs: Any,
    ) -> SubgenreOutput:
        """Score all labels of a batch of tracks; `SubgenreProcessor` makes the inputs.

        modality_mask: (tracks, 3), whether a track has lyrics, captions and audio.
        audio_embeds: (tracks, audio_dim).
        text_input_ids, text_attention_mask: (windows, longest); text_row, text_kind: (windows,), in the order of rows.
        labels: (tracks, labels), 1 for each genre and subgenre of a track, 0 for the others.
        output_hidden_states, output_attentions: return those of the text encoder, if there is text; by default as the
            configuration says.
        kwargs: None, as libraries pass arguments that they have no value for; raises ValueError for any other.
        """
        if given := [name for name, value in kwargs.items() if value is not None]:
            raise ValueError(f"forward of {type(self).__name__} cannot follow {given[0]}={kwargs[given[0]]!r}")
        flags = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        flags = {name: getattr(self.config, name) if flag is None else flag for name, flag in flags.items()}
        outputs = {name: True for name, flag in flags.items() if flag}
        texts = BaseModelOutput()
        mask = modality_mask.bool().long()
        if self.training and self.config.fusion == "cross_attention":
            mask = self.hide_modalities(mask)
        if audio_embeds is None:
            audio_embeds = torch.zeros(len(mask), self.config.audio_dim, device=mask.device)
        audio = self.audio_projection(audio_embeds)
        if text_input_ids is None or text_attention_mask is None or text_row is None or text_kind is None:
            windows, text_row = audio.new_zeros(0, audio.shape[1]), mask.new_zeros(0)
            text_kind = text_row
        else:
            windows, texts = self.encode_windows(text_input_ids, text_attention_mask, text_kind, **outputs)
        fused = self.fusion(windows, text_row, text_kind, audio, mask.to(audio.dtype))
        genre, given_genre = self.split(fused.logits.float())
        logits = torch.cat([genre, join_logits(genre[:, self.parents], given_genre)], dim=1)
        loss = None if labels is None else self.compute_loss(fused, labels)
        states = texts.get("hidden_states"), texts.get("attentions")
        return SubgenreOutput(loss, logits, *states)

    def split(self, raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Split logits of the labels (…, labels) into those of genres, and those of subgenres given their genre."""
        return raw.split([len(self.config.genres), len(self.config.subgenres)], dim=-1)

    def compute_loss(self, fused: Fused, labels: torch.Tensor) -> torch.Tensor:
        """Compute nats a track, summed over the parts: late fusion has one a modality, cross attention one in all."""
        labels = labels.float()
        losses = [hierarchical_loss(*self.split(part), labels, self.parents) for part in fused.parts.float()]
        return (torch.stack(losses) * fused.given).sum(dim=0).mean()

    def encode_windows(
        self, ids: torch.Tensor, mask: torch.Tensor, kind: torch.Tensor, **outputs: bool
    ) -> tuple[torch.Tensor, BaseModelOutput]:
        """Encode windows of tokens as vectors (windows, hidden): means of their tokens' states, weighted by learned
        scores. Returns the text encoder's own outputs beside them, where they are asked for.
        """
        if not (torch.is_grad_enabled() or outputs) and len(ids) > WINDOWS_AT_ONCE:
            parts = zip(*(column.split(WINDOWS_AT_ONCE) for column in (ids, mask, kind)), strict=True)
            return torch.cat([self.encode_windows(*part)[0] for part in parts]), BaseModelOutput()
        if self.training and self.config.token_dropout:
            mask = self.hide_tokens(mask)
        encoded = self.text_encoder(input_ids=ids, attention_mask=mask, **outputs)
        states = encoded.last_hidden_state  # (windows, tokens, width)
        scores = self.text_scores(states).gather(2, kind[:, None, None].expand(-1, ids.shape[1], 1))
        weights = scores.masked_fill(mask[:, :, None] == 0, float("-inf")).softmax(dim=1)
        return self.text_projection((weights * states).sum(dim=1)), encoded

    def hide_tokens(self, mask: torch.Tensor) -> torch.Tensor:
        """Hide some tokens of each window, never its first one (token dropout)."""
        visible = torch.rand(mask.shape, device=mask.device) >= self.config.token_dropout
        visible[:, 0] = True
        return mask * visible

    def hide_modalities(self, mask: torch.Tensor) -> torch.Tensor:
        """Hide some of the modalities that a track has, never all of them (modality dropout)."""
        draws = torch.rand(mask.shape, device=mask.device).masked_fill(mask == 0, -1.0)
        visible = draws >= self.config.modality_dropout
        best = functional.one_hot(draws.argmax(dim=1), mask.shape[1]).bool()
        return mask * (visible | best)


def join_logits(genre: torch.Tensor, given_genre: torch.Tensor) -> torch.Tensor:
    """Compute the logit of σ(genre) · σ(given_genre), exactly; it is never above either."""
    return -torch.logsumexp(torch.stack([-genre, -given_genre, -genre - given_genre]), dim=0)


def hierarchical_loss(
    genre: torch.Tensor, given_genre: torch.Tensor, labels: torch.Tensor, parents: torch.Tensor
) -> torch.Tensor:
    """Compute nats of each track: binary cross entropy of every genre, and of the subgenres below its own genres.

    By the chain rule this is the negative log likelihood of all labels, for no subgenre is without its genre.
    """
    genres, subgenres = labels.split([genre.shape[1], given_genre.shape[1]], dim=1)
    of_genres = functional.binary_cross_entropy_with_logits(genre, genres, reduction="none").sum(dim=1)
    of_subgenres = functional.binary_cross_entropy_with_logits(given_genre, subgenres, reduction="none")
    return of_genres + (of_subgenres * genres[:, parents]).sum(dim=1)


def list_thresholds(config: SubgenreConfig, modality_mask: torch.Tensor) -> torch.Tensor:
    """Return the thresholds of each track (tracks, labels), by the modalities that it has (tracks, modalities)."""
    rows = [tuple(name for name, has in zip(MODALITIES, row, strict=True) if has) for row in modality_mask.tolist()]
    of_subset = {subset: config.list_thresholds(subset) for subset in set(rows)}
    return torch.tensor([of_subset[subset] for subset in rows])


def name_labels(probabilities: torch.Tensor, thresholds: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
    """Choose the labels of tracks (tracks, labels).

    These are the genres that reach their threshold, the likeliest one always, and of their subgenres those whose
    probability given the genre reaches theirs: so an unsure genre does not hide its subgenres.
    thresholds: (labels,), or (tracks, labels) where they differ by what is known of a track.
    """
    genre, subgenre = probabilities.split([probabilities.shape[1] - len(parents), len(parents)], dim=1)
    likeliest = functional.one_hot(genre.argmax(dim=1), genre.shape[1]).bool()
    of_genres, of_subgenres = thresholds.split([genre.shape[1], len(parents)], dim=-1)
    named = (genre >= of_genres) | likeliest
    given_genre = subgenre / genre[:, parents].clamp(min=torch.finfo(genre.dtype).tiny)
    return torch.cat([named, named[:, parents] & (given_genre >= of_subgenres)], dim=1)


SubgenreForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")

__all__ = [
    "SubgenreForSequenceClassification",
    "SubgenreOutput",
    "hierarchical_loss",
    "join_logits",
    "list_thresholds",
    "name_labels",
]
