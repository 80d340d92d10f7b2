"""Where training starts from: refusals, tokenizers, and convolutions at unit variance."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import build_tiny_model, save_tiny_model
from transformers import BartConfig, BartForConditionalGeneration

from descant.data.annotations import Row
from descant.training.recipe import LPMusicCapsOptions
from descant.training.start import (
    add_lora,
    build,
    describe_model,
    find_adapter_base,
    go_on_with_lora,
    is_adapter,
    load_start,
    load_text_side,
    require_room,
    standardise_convolutions,
    start_model,
    train_tokenizer,
)
from descant.training.training_data import TokenizedRows

SIZES = ("d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads",
         "encoder_ffn_dim", "decoder_ffn_dim", "max_position_embeddings", "vocab_size")  # fmt: skip


def test_a_pickle_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match="descant convert transfer.pth"):
        load_start("transfer.pth")


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="nothing: cannot be loaded"):
        load_start(str(tmp_path / "nothing"))


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
    with pytest.raises(ValueError, match="--tokenizer .*none: cannot be loaded"):
        build(LPMusicCapsOptions(tokenizer=str(tmp_path / "none")), [], demo=False)


def test_a_recipe_s_own_model_is_built_where_none_is_given():
    start = SimpleNamespace(build=lambda options, texts, demo: (options, texts, demo))
    built = start_model(None, start, "options", ["a text"], seed=0, demo=True)
    assert built == ("options", ["a text"], True)


def test_a_folder_that_lacks_weights_is_refused_and_not_filled_with_random_ones(tmp_path):
    folder = save_tiny_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["audio_encoder.conv1.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="model: cannot be loaded: weights are missing, audio_encoder.conv1.weight"):
        load_start(str(folder))


def test_an_adapter_is_loaded_onto_its_base_and_trains_on(tmp_path):
    base = load_start(str(save_tiny_model(tmp_path / "base")))[0]
    adapted, processor = add_lora(base, rank=2), load_start(str(tmp_path / "base"))[1]
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.5)
    adapted.save_pretrained(tmp_path / "adapter")
    processor.save_pretrained(tmp_path / "adapter")
    assert find_adapter_base(str(tmp_path / "adapter")) == str(tmp_path / "base")
    assert find_adapter_base(str(tmp_path / "base")) is None and not is_adapter(str(tmp_path / "base"))
    model, _ = load_start(str(tmp_path / "adapter"))
    expected, found = adapted.state_dict(), model.state_dict()
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert describe_model(model).startswith("LPMusicCapsForConditionalGeneration with a LoRA adapter, ")


def test_what_a_command_asks_of_an_adapter_must_be_what_it_has():
    model = add_lora(build_tiny_model()[0], rank=2)
    assert go_on_with_lora(model, "x", None, None) is model is go_on_with_lora(model, "x", 2, None)
    with pytest.raises(ValueError, match="--lora_rank 4: the adapter of --init_from x has 2 and trains on as it is"):
        go_on_with_lora(model, "x", 4, None)
    with pytest.raises(ValueError, match="--lora_targets q_proj: the adapter of --init_from x has"):
        go_on_with_lora(model, "x", None, "q_proj")


@pytest.mark.parametrize(
    ("question", "answer", "message"),
    [
        ("What? " * 300, "Jazz.", "b: its question takes .* tokens, and the model has room for .*: shorten it"),
        ("What?", "Jazz. " * 300, r"b: its answer takes .* tokens, .* \(or lower --max_answer_tokens\)"),
    ],
)
def test_a_row_that_the_model_has_no_room_for_is_named_before_training(question, answer, message):
    model, processor = build_tiny_model()
    texts = (("a", "What?", "Jazz."), ("b", question, answer))
    rows = [Row(clip, asked, said, None, "own", 0.0, 10.0) for clip, asked, said in texts]
    require_room(model, TokenizedRows(rows[:1], processor, 1000))
    with pytest.raises(ValueError, match=message):
        require_room(model, TokenizedRows(rows, processor, 1000))
