"""Where training starts from: refusals, tokenizers, and convolutions at unit variance."""

from types import SimpleNamespace

import pytest
import torch
from tiny import build_tiny_model

from descant.training.start import load_start, standardise_convolutions, train_tokenizer


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
