"""A configuration of LP-MusicCaps for tests: bart-base's shape in small."""

from typing import Any

from descant.models.lp_music_caps import LPMusicCapsConfig


def small_config(
    vocab_size: int, d_model: int = 64, layers: int = 2, heads: int = 4, **others: Any
) -> LPMusicCapsConfig:
    """Build a configuration; `others` are any of its fields."""
    sizes = {
        "encoder_layers": layers, "decoder_layers": layers,
        "encoder_attention_heads": heads, "decoder_attention_heads": heads,
        "encoder_ffn_dim": 2 * d_model, "decoder_ffn_dim": 2 * d_model, "max_position_embeddings": 256,
    }  # fmt: skip
    return LPMusicCapsConfig(vocab_size=vocab_size, d_model=d_model, **{**sizes, **others})
