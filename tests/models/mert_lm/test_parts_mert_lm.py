"""Tests of the configuration and of joining: MERT's checkpoint weight by weight, adapters onto parts, refusals."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_mert_lm import WINDOW_S, join_tiny
from transformers import (
    ASTFeatureExtractor,
    AutoConfig,
    AutoModelForMultimodalLM,
    AutoProcessor,
    HubertConfig,
    HubertModel,
    LlamaConfig,
)

from descant.cli import main
from descant.models import musicnn
from descant.models.lp_music_caps import LPMusicCapsAudioModel
from descant.models.mert_lm import MertLMConfig, join_parts
from descant.models.mert_lm.loading_mert_lm import load_audio_encoder
from descant.models.mert_lm.parts_mert_lm import ConversionError, convert_checkpoint, load_feature_extractor
from descant.models.musicnn import PRETRAINED, MusicnnConfig, MusicnnModel


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


# As m-a-p/MERT-v1-95M names the two weights of its weight-normalised convolution.
OLD_NAMES = {
    "encoder.pos_conv_embed.conv.parametrizations.weight.original0": "encoder.pos_conv_embed.conv.weight_g",
    "encoder.pos_conv_embed.conv.parametrizations.weight.original1": "encoder.pos_conv_embed.conv.weight_v",
}
MERT_CONFIG = {
    "model_type": "mert_model", "architectures": ["MERTModel"], "sample_rate": 24_000, "feature_extractor_cqt": False,
    "deepnorm": False, "attention_relax": -1.0, "auto_map": {"AutoModel": "modeling_MERT.MERTModel"},
}  # fmt: skip


def save_as_mert(encoder: str, folder: Path, **config: object) -> HubertModel:
    """Writes an encoder as MERT's repository holds it: another model type, its own code, a pickle with old names."""
    model = HubertModel.from_pretrained(encoder)
    folder.mkdir()
    values = json.loads((Path(encoder) / "config.json").read_text()) | MERT_CONFIG | config
    (folder / "config.json").write_text(json.dumps(values))
    torch.save({OLD_NAMES.get(name, name): weight for name, weight in model.state_dict().items()},
               folder / "pytorch_model.bin")  # fmt: skip
    (folder / "preprocessor_config.json").write_text((Path(encoder) / "preprocessor_config.json").read_text())
    return model


def test_mert_s_weights_are_mapped_exactly_without_its_code(parts, tmp_path, waveforms) -> None:
    encoder, language_model = parts
    original = save_as_mert(encoder, tmp_path / "mert").eval()
    model = join_parts(str(tmp_path / "mert"), language_model)[0]
    expected = original.state_dict()
    assert set(OLD_NAMES) <= expected.keys() == model.audio_encoder.state_dict().keys()
    for name, weight in model.audio_encoder.state_dict().items():
        assert torch.equal(weight, expected[name]), name
    heard = torch.from_numpy(np.stack([waveforms[0]]))
    with torch.no_grad():
        assert torch.equal(model.audio_encoder(heard).last_hidden_state, original(heard).last_hidden_state)


def test_an_encoder_that_lacks_a_weight_is_refused(parts, tmp_path) -> None:
    save_as_mert(parts[0], tmp_path / "mert")
    weights = torch.load(tmp_path / "mert" / "pytorch_model.bin")
    del weights["encoder.pos_conv_embed.conv.weight_g"]
    torch.save(weights, tmp_path / "mert" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pos_conv_embed.* is missing"):
        load_audio_encoder(str(tmp_path / "mert"))


def test_a_mert_of_another_layout_is_refused(parts, tmp_path) -> None:
    save_as_mert(parts[0], tmp_path / "mert", attention_relax=32.0)
    with pytest.raises(ValueError, match="attention_relax is 32.0"):
        load_audio_encoder(str(tmp_path / "mert"))


def test_any_encoder_with_a_front_end_can_be_joined(parts, tmp_path) -> None:
    from tiny import save_tiny_model

    folder = save_tiny_model(tmp_path / "captioner")
    model, processor = join_parts(str(folder), parts[1], layer_mix="last", pool_stride=8)
    assert isinstance(model.audio_encoder, LPMusicCapsAudioModel)
    assert (model.config.audio_frames, processor.feature_extractor.sampling_rate) == (32, 16_000)
    inputs = processor(audio=[np.ones(1600, np.float32)], sampling_rate=16_000, return_tensors="pt")
    assert model.generate(**inputs, max_new_tokens=2).shape == (1, 2)


def make_older(folder: Path) -> None:
    """Make of a saved model one of the time before musicnn had states of timbre and tempo."""
    config = json.loads((folder / "config.json").read_text())
    for name in ("timbre_cepstra", "tempo_bands", "tempo_periods"):
        del config["audio_config"][name]
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    for name in ("mean", "spread", "projection.weight"):
        weights[f"projector.{name}"] = weights[f"projector.{name}"][..., :800].contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_an_encoder_whose_front_end_has_no_windows_is_refused(tmp_path) -> None:
    ASTFeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="ASTFeatureExtractor hears no windows: give MERT"):
        load_feature_extractor(str(tmp_path), WINDOW_S)


def test_the_encoder_that_comes_with_descant_is_named_by_a_word(parts, tmp_path, monkeypatch) -> None:
    model, processor = join_parts("musicnn", parts[1], pooling="none")
    assert isinstance(model.audio_encoder, MusicnnModel)
    assert (model.config.audio_frames, model.config.audio_states) == (3, 1)  # patches of 2.99 s in a window of 10 s
    audio = np.sin(np.arange(160_000, dtype=np.float32) ** 1.5 / 1e4)
    inputs = processor(audio=[audio], sampling_rate=16_000, return_tensors="pt")
    states = model.encode_audio(inputs["input_features"])
    assert states.shape == (1, 1, 3, 1682) and states.std() > 0.1
    cached = model.cached_features(processor.feature_extractor).extract(audio)
    np.testing.assert_allclose(cached, states[0].numpy(), atol=1e-5)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["audio_model_id"] == "musicnn"
    assert (tmp_path / "model.safetensors").stat().st_size < 500_000
    loaded = AutoModelForMultimodalLM.from_pretrained(tmp_path)
    assert loaded.generate(**inputs, max_new_tokens=4).tolist() == model.generate(**inputs, max_new_tokens=4).tolist()
    make_older(tmp_path)
    older = AutoModelForMultimodalLM.from_pretrained(tmp_path)
    assert torch.equal(older.encode_audio(inputs["input_features"]), states[..., :800])
    monkeypatch.setitem(sys.modules, "descant.models.musicnn", None)  # importing it now raises ImportError
    with pytest.raises(ValueError, match="musicnn comes with descant: install it"):
        AutoModelForMultimodalLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_encoder_that_comes_with_descant_loads_as_transformers_loads_it(dtype: torch.dtype) -> None:
    expected, encoder = MusicnnModel.from_pretrained(PRETRAINED, dtype=dtype), load_audio_encoder("musicnn", dtype)
    assert type(encoder) is type(expected) and not encoder.training
    assert encoder.config.to_diff_dict() == expected.config.to_diff_dict()
    weights, as_expected = encoder.state_dict(), expected.state_dict()
    assert weights.keys() == as_expected.keys()
    assert all(torch.equal(weights[name], value) and weights[name].dtype == value.dtype
               for name, value in as_expected.items())  # fmt: skip


def test_the_shipped_encoder_is_refused_where_weights_are_missing_or_misshapen(tmp_path, monkeypatch) -> None:
    MusicnnModel(MusicnnConfig(networks=("mtt",))).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lost = sorted(weights)[0]
    save_file({name: value for name, value in weights.items() if name != lost}, tmp_path / "model.safetensors")
    monkeypatch.setattr(musicnn, "PRETRAINED", tmp_path)
    with pytest.raises(ValueError, match=f"no encoder of its configuration: {re.escape(lost)} is missing"):
        load_audio_encoder("musicnn")
    with pytest.raises(ValueError, match="no encoder of its configuration: weights are of another shape"):
        load_audio_encoder("musicnn", config=MusicnnConfig(networks=("mtt",), timbral_filters=3))


def test_an_adapter_folder_loads_onto_the_parts_by_itself(parts, tmp_path, waveforms) -> None:
    model, processor = join_tiny(parts)
    wanted = {"target_modules": model.lora_target_modules, "modules_to_save": list(model.lora_modules_to_save)}
    adapted = get_peft_model(model, LoraConfig(r=2, **wanted))
    torch.manual_seed(1)
    for weight in adapted.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.3)
    adapted.save_pretrained(tmp_path)
    model.save_beside_adapter(str(tmp_path))
    inputs = processor(audio=waveforms, sampling_rate=24_000, return_tensors="pt")
    expected = adapted.eval().generate(**inputs)
    plain = join_tiny(parts)[0]
    assert plain.generate(**inputs).tolist() != expected.tolist()
    loaded = AutoModelForMultimodalLM.from_pretrained(tmp_path)
    assert loaded.generate(**inputs).tolist() == expected.tolist()
    assert sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")) < 60_000


def test_a_folder_with_a_missing_or_foreign_weight_says_so(joined, tmp_path) -> None:
    model, _ = joined
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({"projector.projection.weight": weights["projector.projection.weight"]}, tmp_path / "model.safetensors")
    _, found = AutoModelForMultimodalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert found["missing_keys"] == {"projector.projection.bias", "projector.mean", "projector.spread"}
    save_file({**weights, "other": weights["projector.projection.bias"].clone()}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="weights that the model has not, other first"):
        AutoModelForMultimodalLM.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"holds neither model.safetensors nor adapter_config.json"):
        AutoModelForMultimodalLM.from_pretrained(tmp_path)


def test_a_language_model_that_cannot_chat_is_refused(parts, tmp_path) -> None:
    folder = tmp_path / "lm"
    folder.mkdir()
    for file in Path(parts[1]).iterdir():
        if file.name != "chat_template.jinja":
            (folder / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match="no chat template"):
        join_parts(parts[0], str(folder), window_s=WINDOW_S)


def weights(prefix: str = "") -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {f"{prefix}inp_layer.weight": torch.randn(64, 32), f"{prefix}inp_layer.bias": torch.randn(64)}


@pytest.mark.parametrize("prefix", ["", "module.projector."])
def test_a_projector_becomes_a_folder_that_answers(parts, tmp_path: Path, prefix: str, capsys) -> None:
    torch.save(weights(prefix), tmp_path / "projector.pt")
    command = ["convert", str(tmp_path / "projector.pt"), "--audio_encoder", parts[0], "--text_model", parts[1],
               "--output", str(tmp_path / "model"), "--pooling", "mean"]  # fmt: skip
    assert main(command) == 0
    model = AutoModelForMultimodalLM.from_pretrained(tmp_path / "model")
    assert torch.equal(model.projector.projection.weight, weights()["inp_layer.weight"])
    assert torch.equal(model.projector.projection.bias, weights()["inp_layer.bias"])
    assert (model.config.layer_mix, model.config.pooling) == ("last", "mean")
    processor = AutoProcessor.from_pretrained(tmp_path / "model")
    inputs = processor(audio=[0.1 * torch.randn(2400).numpy()], sampling_rate=24_000, return_tensors="pt")
    assert model.generate(**inputs, max_new_tokens=2).shape == (1, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"inp_layer.weight": torch.zeros(64, 32)}, "lacks inp_layer.bias"),
        ({**weights(), "other.weight": torch.zeros(1)}, "other.weight, which is no part of a projector"),
        ({**weights(), **weights("again.")}, "two weights named inp_layer.weight"),
        ({**weights(), "inp_layer.weight": torch.zeros(64, 31)}, r"shape \(64, 31\), the parts make it \(64, 32\)"),
        ([1, 2], "lacks inp_layer.bias"),
    ],
)
def test_other_checkpoints_are_refused_by_name(parts, tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "projector.pt")
    with pytest.raises(ConversionError, match=message):
        convert_checkpoint(tmp_path / "projector.pt", *parts, tmp_path / "model", window_s=WINDOW_S)
    assert not (tmp_path / "model").exists()


def test_half_of_the_parts_is_refused_on_the_command_line(tmp_path: Path, capsys) -> None:
    assert main(["convert", "p.pt", "--audio_encoder", "a", "--output", str(tmp_path / "m")]) == 2
    assert "give either --bart, or --audio_encoder and --text_model" in capsys.readouterr().err
