"""Where training starts from: refusals, tokenizers, and convolutions at unit variance."""

from types import SimpleNamespace

import pytest
import torch
from tiny import build_tiny_model
from transformers import BartConfig, BartForConditionalGeneration

from descant.training.start import load_start, load_text_side, standardise_convolutions, train_tokenizer

SIZES = ("d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads",
         "encoder_ffn_dim", "decoder_ffn_dim", "max_position_embeddings", "vocab_size")  # fmt: skip


def test_a_pickle_is_refused_with_the_way_out():
    settings = SimpleNamespace(init_from="transfer.pth")
    with pytest.raises(ValueError, match="descant convert transfer.pth"):
        load_start(settings, [])


def test_a_folder_that_is_not_there_is_named(tmp_path):
    settings = SimpleNamespace(init_from=str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="nothing: cannot be loaded"):
        load_start(settings, [])


def test_channels_of_every_layer_start_at_zero_mean_and_unit_variance():
    model, _ = build_tiny_model()
    torch.manual_seed(0)
    mels = 12 * torch.randn(6, 128, 1001) - 6
    standardise_convolutions(model.audio_encoder, mels)
    hidden = mels
    with torch.no_grad():
        for conv in (model.audio_encoder.conv1, *model.audio_encoder.conv_stack):
            channels = conv(hidden)
            assert channels.mean(dim=(0, 2)).abs().max() < 1e-3
            assert (channels.std(dim=(0, 2)) - 1).abs().max() < 1e-3
            hidden = model.audio_encoder.activation(channels)


def test_a_tokenizer_of_one_s_own_keeps_bart_s_special_tokens():
    tokenizer = train_tokenizer(["a slow piano", "what is heard?"])
    ids = tokenizer("a slow piano")["input_ids"]
    assert (ids[0], ids[-1], tokenizer.pad_token_id) == (0, 2, 1)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a slow piano"


def test_the_text_side_starts_from_a_bart_of_the_same_sizes(tmp_path):
    model, _ = build_tiny_model()
    sizes = BartConfig(**{**BartConfig().to_dict(), **{key: getattr(model.config, key) for key in SIZES}})
    bart = BartForConditionalGeneration(sizes)
    bart.save_pretrained(tmp_path / "bart")
    convolution = model.audio_encoder.conv1.weight.clone()
    load_text_side(model, str(tmp_path / "bart"))
    for name, weight in bart.model.state_dict().items():
        assert torch.equal(model.model.state_dict()[name], weight), name
    assert torch.equal(model.audio_encoder.conv1.weight, convolution)


def test_a_bart_of_other_sizes_is_refused_and_not_half_loaded_in_silence(tmp_path):
    model, _ = build_tiny_model()
    sizes = {key: getattr(model.config, key) for key in SIZES} | {"vocab_size": 7}
    BartForConditionalGeneration(BartConfig(**sizes, pad_token_id=1)).save_pretrained(tmp_path / "bart")
    with pytest.raises(ValueError, match="--text_init_from .*bart: cannot be loaded"):
        load_text_side(model, str(tmp_path / "bart"))


def test_a_tokenizer_out_of_reach_is_named(tmp_path):
    settings = SimpleNamespace(init_from=None, seed=0, model_size="base", tokenizer=str(tmp_path / "none"))
    with pytest.raises(ValueError, match="--tokenizer .*none: cannot be loaded"):
        load_start(settings, [])


def test_a_recipe_s_own_model_is_built_where_none_is_given():
    settings = SimpleNamespace(init_from=None, seed=0)
    assert load_start(settings, ["a text"], lambda asked, texts: (asked, texts)) == (settings, ["a text"])
