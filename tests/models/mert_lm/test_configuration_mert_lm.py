"""Tests of the configuration: positions, states, nested parts, refusals."""

from pathlib import Path

import pytest
from transformers import AutoConfig, HubertConfig, LlamaConfig

from descant.models.mert_lm import MertLMConfig


def test_positions_follow_the_pooling() -> None:
    counted = {
        pooling: MertLMConfig(audio_frames=749, pooling=pooling, pool_stride=15).audio_positions
        for pooling in ("none", "stride", "mean")
    }
    assert counted == {"none": 749, "stride": 50, "mean": 1}
    assert MertLMConfig(pooling="stride", tokens_per_state=3).audio_positions == 150


def test_a_learned_mix_hears_every_state_of_the_encoder() -> None:
    assert MertLMConfig(layer_mix="learned").audio_states == 13
    assert MertLMConfig(layer_mix="mean").audio_states == 1


def test_it_is_saved_with_both_parts_and_loaded_by_the_auto_class(tmp_path: Path) -> None:
    audio, text = HubertConfig(hidden_size=24, num_attention_heads=2), LlamaConfig(hidden_size=64, vocab_size=99)
    MertLMConfig(audio_config=audio, text_config=text, text_model_id="someone/lm").save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert (loaded.audio_config.hidden_size, loaded.text_config.vocab_size) == (24, 99)
    assert (type(loaded.text_config), loaded.text_model_id) == (LlamaConfig, "someone/lm")


def test_settings_of_a_loaded_part_are_left_alone() -> None:
    part = LlamaConfig()
    part._attn_implementation = "eager"
    MertLMConfig(text_config=part)
    assert part._attn_implementation == "eager"


@pytest.mark.parametrize("name", ["layer_mix", "pooling", "projector"])
def test_an_unknown_setting_is_named_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 'most': give one of"):
        MertLMConfig(**{name: "most"})
