"""What every model that answers questions about music offers: protocols of models, processors and front ends.

Everything outside a model's folder uses these and nothing else of a model, so another model is one that satisfies
them: `tests/models/test_contract.py` runs over every implementation. Types only: no module needs this one to run.

Shapes: clips is the number of different recordings, batch that of rows (a question about a clip each), positions the
embeddings that one clip takes, width that of the language model.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from transformers import BatchFeature, GenerationConfig, PreTrainedConfig
from transformers.modeling_outputs import ModelOutput

Pair = tuple[Hashable, torch.Tensor | np.ndarray, list[int] | None]  # clip key, features of the clip, prompt ids
Answer = tuple[int, list[int], float]  # position in the stream, token ids, length-normalised log probability


class FrontEnd(Protocol):
    """Computes the features that a feature store keeps of each clip."""

    sampling_rate: int  # of the waveforms, in Hz
    window_s: float  # the longest clip, in seconds

    @property
    def num_samples(self) -> int:
        """Samples of one window."""

    def extract(self, waveform: np.ndarray) -> np.ndarray:
        """Compute the features of one mono waveform (samples,) of at most one window, of the shape `feature_shape`."""

    def to_dict(self) -> dict[str, Any]:
        """Return all that decides the features, `feature_shape` among it: a store of others is another store."""


class FeatureExtractor(FrontEnd, Protocol):
    """The front end inside a processor: waveforms to what the model takes as `input_features`."""

    feature_shape: list[int]

    def __call__(
        self,
        audio: Any,
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        *,
        padding: bool | str = True,
        truncation: bool = False,
        max_length: int | None = None,
    ) -> BatchFeature:
        """Compute `input_features` (clips, *feature_shape); raises ValueError for audio that cannot be used."""


class QuestionProcessor(Protocol):
    """Turns audio and questions into what the model takes, and tokens into text."""

    feature_extractor: Any  # a FeatureExtractor
    tokenizer: Any

    def __call__(
        self,
        audio: Any = None,
        text: str | Sequence[str | None] | None = None,
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Build `input_features` (batch, …), and `prompt_input_ids` and `prompt_attention_mask` (batch, longest)."""

    def prompt_ids(self, question: str | None, max_tokens: int | None = None) -> list[int] | None:
        """Tokenize a question as the model's prompt; None asks for a caption, and may have no prompt (None)."""

    def build_prompts(self, questions: Sequence[str | None]) -> dict[str, list[list[int]]]:
        """Tokenize questions and pad them: `prompt_input_ids` and `prompt_attention_mask`; nothing without any."""

    def answer_ids(self, answers: Sequence[str], max_tokens: int | None = None) -> list[list[int]]:
        """Tokenize answers as the model learns to write them, their end included, cut at `max_tokens`."""

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False) -> list[str]:
        """Return the text of each row of token ids."""


class QuestionAnsweringModel(Protocol):
    """A `PreTrainedModel` under `AutoModelForMultimodalLM` that answers questions about clips of music."""

    tiers: ClassVar[tuple[str, ...]]  # values of `tier=` for `generate` and `answer_many`
    decision_config: Any  # what typed questions need, None where they have not been fitted
    lora_target_modules: ClassVar[str]  # what LoRA adapts: a regular expression over module names
    lora_modules_to_save: ClassVar[tuple[str, ...]]  # what is trained whole beside it
    config: PreTrainedConfig  # with pad_token_id and decoder_start_token_id
    generation_config: GenerationConfig

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""

    @property
    def peft_model(self) -> Any:
        """The PeftModel around this one, where an adapter was loaded; else None."""

    def forward(
        self,
        input_features: torch.Tensor | None = None,
        prompt_input_ids: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        *,
        clip_index: torch.Tensor | None = None,
        audio_embeds: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        label_smoothing: float | None = None,
    ) -> ModelOutput:
        """Predict the answers (batch, longest answer): `loss` and `logits`.

        input_features: (clips, …), of which clip_index (batch,) picks one a row; without it there is one clip a row.
        labels: -100 where nothing is to be predicted. num_items_in_batch: what the summed loss is divided by.
        label_smoothing: return the loss alone, smoothed so, and make no more logits than it takes.
        """

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
        **kwargs: Any,
    ) -> torch.Tensor:
        """Return the answers' tokens (batch, longest answer); inputs are those of `forward`, labels are ignored."""

    def answer_many(
        self,
        pairs: Iterable[Pair],
        *,
        batch_size: int = 32,
        generation_config: GenerationConfig | None = None,
        **settings: Any,
    ) -> Iterator[Answer]:
        """Answer a stream with bounded memory, in any order; pairs with the same key are about the same clip."""

    def cached_features(self, feature_extractor: Any) -> FrontEnd:
        """Return what computes the features that are kept of every clip: all that does not train, done once."""

    def get_audio_features(self, input_features: torch.Tensor) -> torch.Tensor:
        """Encode features, from the extractor or a feature store, as embeddings (clips, positions, width)."""

    def pool_audio(self, input_features: torch.Tensor) -> torch.Tensor:
        """Return one vector of each clip (clips, any width): what a classifier of its sound reads."""

    def score_options(
        self, input_features: torch.Tensor, prompts: list[list[list[int]]], trees: list[Any]
    ) -> list[torch.Tensor]:
        """Return log-probabilities (windows, options) of each typed question, averaged over its wordings."""

    def read_probed(self, input_features: torch.Tensor) -> torch.Tensor:
        """Return what the probes of typed questions read of each window (windows, any width)."""

    def save_beside_adapter(self, folder: str) -> None:
        """Save what an adapter folder needs, besides the adapter, to be loaded by itself."""
