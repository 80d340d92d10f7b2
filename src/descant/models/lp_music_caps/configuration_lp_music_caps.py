"""The sizes of an LP-MusicCaps question-answering model."""

from typing import TYPE_CHECKING, Any

from transformers import BartConfig, GenerationConfig

if TYPE_CHECKING:
    # Never executed, but save_pretrained and the Hub carry along each file that is imported relatively.
    from .pipeline_music import MusicDecisionPipeline, MusicQuestionAnsweringPipeline  # noqa: F401

PIPELINES = {
    "music-question-answering": "pipeline_music.MusicQuestionAnsweringPipeline",
    "music-decision": "pipeline_music.MusicDecisionPipeline",
}


def name_pipelines() -> dict[str, dict[str, Any]]:
    """Build the entries by which `pipeline` finds ours; new ones each time, since it writes classes into them."""
    return {task: {"impl": name, "pt": ["AutoModelForMultimodalLM"]} for task, name in PIPELINES.items()}



class LPMusicCapsConfig(BartConfig):
    """A BART configuration with the sizes of the audio encoder beside it; the defaults are those of bart-base.

    num_mel_bins: mel bands of one frame.
    audio_frames: frames of one window (10 s at a hop of 10 ms, centred: 1001).
    num_strided_convs: convolutions of stride 2 after the first one; each halves the time axis.
    """

    model_type = "lp_music_caps"

    d_model: int = 768
    encoder_layers: int = 6
    encoder_ffn_dim: int = 3072
    encoder_attention_heads: int = 12
    decoder_layers: int = 6
    decoder_ffn_dim: int = 3072
    decoder_attention_heads: int = 12
    num_mel_bins: int = 128
    audio_frames: int = 1001
    num_strided_convs: int = 5

    def __post_init__(self, **kwargs: Any) -> None:
        # register_for_auto_class names one Auto class for a model; this one publishes under two.
        model = "modeling_lp_music_caps.LPMusicCapsForConditionalGeneration"
        kwargs["auto_map"] = {"AutoModelForMultimodalLM": model, **kwargs.get("auto_map", {})}
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
        """Encoder positions that one window of audio takes (32 by default)."""
        frames = self.audio_frames
        for _ in range(self.num_strided_convs):
            frames = (frames - 1) // 2 + 1
        return frames


def default_generation_config(config: LPMusicCapsConfig) -> GenerationConfig:
    """Build the settings that the published checkpoints were evaluated with.

    The reference inherited early_stopping, no_repeat_ngram_size and the forced tokens from bart-base's own
    configuration (under transformers 4.26), and called `generate` with 5 beams, 2 to 128 tokens.
    """
    return GenerationConfig(
        num_beams=5,
        max_length=128,
        min_length=2,
        early_stopping=True,
        no_repeat_ngram_size=3,
        forced_bos_token_id=config.bos_token_id,
        forced_eos_token_id=config.eos_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
    )


LPMusicCapsConfig.register_for_auto_class()

__all__ = ["LPMusicCapsConfig", "default_generation_config"]
