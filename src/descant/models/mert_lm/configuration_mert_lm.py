"""The parts of a MertLM model, and how they are joined."""

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, GenerationConfig, PreTrainedConfig

if TYPE_CHECKING:
    # Never executed, but save_pretrained and the Hub carry along each file that is imported relatively.
    from .pipeline_music import MusicDecisionPipeline, MusicQuestionAnsweringPipeline  # noqa: F401

PIPELINES = {
    "music-question-answering": "pipeline_music.MusicQuestionAnsweringPipeline",
    "music-decision": "pipeline_music.MusicDecisionPipeline",
}

LAYER_MIXES = ("last", "mean", "learned")
POOLINGS = ("none", "stride", "mean")
PROJECTORS = ("linear", "mlp")


def name_pipelines() -> dict[str, dict[str, Any]]:
    """Build the entries by which `pipeline` finds ours; new ones each time, since it writes classes into them."""
    return {task: {"impl": name, "pt": ["AutoModelForMultimodalLM"]} for task, name in PIPELINES.items()}



class MertLMConfig(PreTrainedConfig):
    """The configurations of an audio encoder and a causal language model, and of what lies between them.

    audio_model_id, text_model_id: where the parts come from (a Hub id or folder). A saved model holds no weights of a
        part that is named, and is loaded onto it; without both it holds everything.
    text_frozen: whether the language model never trains but through LoRA. One that was made for this model alone, and
        knows nothing before, trains whole.
    audio_frames: frames that the encoder gives for one window of audio.
    layer_mix: which of the encoder's hidden states are used: the "last", the "mean" of all, or a "learned" weighting.
    pooling: over frames: "none", means over "stride" `pool_stride` frames, or one "mean" (MusiLingo).
    projector: one "linear" layer, or a normed "mlp" with one hidden layer.
    projector_size: width of the mlp's hidden layer (None: the language model's), or rank of the linear layer, which
        is then made of two.
    projector_dropout: share of the standardised states that is dropped in training.
    tokens_per_state: embeddings in the prompt that each pooled state becomes (ClipCap, arXiv 2111.09734, has ten).
    projector_branch: width of a hidden layer beside the projector; 0 for none.
    branch_dropout: share of that layer's inputs, and of its channels, that are left out in training.
    audio_token_id: the placeholder in prompts, whose embeddings the audio takes; the language model need not know it.
    decoder_start_token_id: the last token of every prompt, after which the answer begins.
    """

    model_type = "mert_lm"
    sub_configs = {"audio_config": AutoConfig, "text_config": AutoConfig}

    audio_config: Any = None  # a PreTrainedConfig once it is read; given as such, as its dict or not at all
    text_config: Any = None
    audio_model_id: str | None = None
    text_model_id: str | None = None
    text_frozen: bool = True
    audio_frames: int = 749
    layer_mix: str = "mean"
    pooling: str = "stride"
    pool_stride: int = 15
    projector: str = "linear"
    projector_size: int | None = None
    projector_dropout: float = 0.0
    tokens_per_state: int = 1
    projector_branch: int = 0
    branch_dropout: float = 0.4
    audio_token_id: int | None = None
    decoder_start_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.audio_config = _as_config(self.audio_config, "hubert")
        self.text_config = _as_config(self.text_config, "llama")
        for name, allowed in (("layer_mix", LAYER_MIXES), ("pooling", POOLINGS), ("projector", PROJECTORS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}: give one of {', '.join(allowed)}")
        # Only where the class came with the checkpoint: elsewhere `import descant` has registered the pipeline, and a
        # config that names one makes `pipeline` insist on remote code.
        kwargs.pop("custom_pipelines", None)
        if __name__.startswith("transformers_modules."):
            kwargs["custom_pipelines"] = name_pipelines()
        super().__post_init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Return the saved form, which names the pipeline for those who load the checkpoint with its code."""
        return {**super().to_dict(), "custom_pipelines": name_pipelines()}

    @property
    def audio_positions(self) -> int:
        """Positions in the prompt that one window of audio takes."""
        return self.pooled_frames * self.tokens_per_state

    @property
    def pooled_frames(self) -> int:
        """Frames of one window after pooling."""
        strides = -(-self.audio_frames // self.pool_stride)
        return {"none": self.audio_frames, "stride": strides, "mean": 1}[self.pooling]

    @property
    def audio_states(self) -> int:
        """Hidden states of the encoder that reach the projector."""
        return self.audio_config.num_hidden_layers + 1 if self.layer_mix == "learned" else 1


def _as_config(values: dict | PreTrainedConfig | None, default_type: str) -> PreTrainedConfig:
    if isinstance(values, PreTrainedConfig):
        return deepcopy(values)  # a loaded part goes by its own, which this one's settings must not reach
    values = dict(values or {})
    return AutoConfig.for_model(values.pop("model_type", default_type), **values)


def default_generation_config(config: MertLMConfig) -> GenerationConfig:
    """Build the settings of an answer: the likeliest token each time, until the turn ends."""
    return GenerationConfig(
        max_new_tokens=128,
        do_sample=False,
        num_beams=1,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )


MertLMConfig.register_for_auto_class()

__all__ = ["MertLMConfig", "default_generation_config"]
