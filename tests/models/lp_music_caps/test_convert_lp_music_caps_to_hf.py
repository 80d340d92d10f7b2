"""Tests of the conversion: every weight used or refused by name, settings as published, nothing run."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from torchaudio.functional import melscale_fbanks

from descant.cli import main
from descant.models.lp_music_caps import LPMusicCapsForConditionalGeneration, LPMusicCapsProcessor
from descant.models.lp_music_caps.convert_lp_music_caps_to_hf import ConversionError, convert_checkpoint

PUBLISHED_SETTINGS = {
    "num_beams": 5,
    "max_length": 128,
    "min_length": 2,
    "early_stopping": True,
    "no_repeat_ngram_size": 3,
    "forced_bos_token_id": 0,
    "forced_eos_token_id": 2,
    "decoder_start_token_id": 2,
}


@pytest.fixture
def bart(model: LPMusicCapsForConditionalGeneration, tokenizer, tmp_path: Path) -> Path:
    """A folder as facebook/bart-base: vocabulary, sizes, and generation settings that must stay behind."""
    folder = tmp_path / "bart"
    folder.mkdir()
    config = model.config.to_dict() | {"model_type": "bart", "num_beams": 4, "max_length": 20, "length_penalty": 3.0}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if "audio" not in k}))
    tokenizer.backend_tokenizer.model.save(str(folder))
    return folder


@pytest.fixture
def state_dict(model: LPMusicCapsForConditionalGeneration) -> dict[str, torch.Tensor]:
    """The small model's weights under the reference's names, with the buffers that it stores."""
    weights = {
        name if name.startswith("audio_encoder") else f"bart.{name}": weight
        for name, weight in model.state_dict().items()
    }
    weights["audio_encoder.positional_embedding"] = model.audio_encoder.sinusoids
    weights["audio_encoder.mel_encoder.spec_fn.window"] = torch.hann_window(1024)
    weights["audio_encoder.mel_encoder.mel_scale.fb"] = melscale_fbanks(513, 0.0, 8000.0, 128, 16000)
    return weights


def write_checkpoint(weights: dict[str, torch.Tensor], folder: Path) -> Path:
    torch.save({"epoch": 3, "state_dict": weights, "optimizer": {"state": {}}}, folder / "checkpoint.pth")
    return folder / "checkpoint.pth"


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_converted_model_is_the_model_that_was_saved(
    model, processor, waveforms, bart: Path, state_dict: dict, tmp_path: Path, prefix: str
) -> None:
    checkpoint = write_checkpoint({prefix + name: weight for name, weight in state_dict.items()}, tmp_path)
    convert_checkpoint(checkpoint, str(bart), tmp_path / "converted")
    converted = LPMusicCapsForConditionalGeneration.from_pretrained(tmp_path / "converted")
    loaded = LPMusicCapsProcessor.from_pretrained(tmp_path / "converted")
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in converted.state_dict().items())
    text = ["Is it fast or slow?"]
    inputs = loaded(audio=waveforms[:1], text=text, sampling_rate=16000, return_tensors="pt")
    assert inputs["prompt_input_ids"].tolist() == processor.tokenizer(text)["input_ids"]
    assert torch.equal(converted.generate(**inputs), model.generate(**inputs))


def test_generation_settings_are_the_published_ones_whatever_bart_says(
    bart: Path, state_dict: dict, tmp_path: Path
) -> None:
    convert_checkpoint(write_checkpoint(state_dict, tmp_path), str(bart), tmp_path / "converted")
    settings = json.loads((tmp_path / "converted/generation_config.json").read_text())
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    del settings["transformers_version"]
    assert settings == PUBLISHED_SETTINGS | ids
    assert "num_beams" not in json.loads((tmp_path / "converted/config.json").read_text())
    assert not list(tmp_path.glob(".converted*"))


def test_half_precision_weights_become_float32(bart: Path, state_dict: dict, tmp_path: Path) -> None:
    state_dict["audio_encoder.conv1.weight"] = state_dict["audio_encoder.conv1.weight"].half()
    model = convert_checkpoint(write_checkpoint(state_dict, tmp_path), str(bart), tmp_path / "converted")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def drop(name: str):
    return lambda weights: {k: v for k, v in weights.items() if k != name}


def put(name: str, value: torch.Tensor | str):
    return lambda weights: weights | {name: value}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop("bart.lm_head.weight"), "lacks weights of the model: bart.lm_head.weight"),
        (drop("audio_encoder.conv1.bias"), "lacks weights of the model: audio_encoder.conv1.bias"),
        (drop("audio_encoder.positional_embedding"), "lacks audio_encoder.positional_embedding"),
        (put("bart.extra", torch.zeros(1)), "does not: bart.extra"),
        (put("model.shared.weight", torch.zeros(1)), "does not: model.shared.weight"),
        (put("module.bart.lm_head.weight", torch.zeros(1)), "does not: module.bart.lm_head.weight"),
        (put("bart.note", "hello"), "no weights: bart.note"),
        (put("audio_encoder.conv1.bias", torch.zeros(7)), r"conv1.bias has shape \(7,\), --bart makes it \(32,\)"),
        (put("audio_encoder.mel_encoder.spec_fn.window", torch.ones(1024)), "spec_fn.window is not what"),
        (put("audio_encoder.mel_encoder.mel_scale.fb", torch.ones(513, 80)), "mel_scale.fb is not what"),
        (put("audio_encoder.positional_embedding", torch.zeros(32, 32)), "positional_embedding is not what"),
        (lambda w: w | {"bart.lm_head.weight": w["bart.lm_head.weight"] + 1}, "lm_head.weight differs from"),
        (lambda w: {}, "holds no state_dict"),
        (lambda w: w | {5: torch.zeros(1)}, "5"),
    ],
)
def test_every_key_is_used_or_refused_by_name(
    bart: Path, state_dict: dict, tmp_path: Path, change, reason: str
) -> None:
    with pytest.raises(ConversionError, match=reason):
        convert_checkpoint(write_checkpoint(change(state_dict), tmp_path), str(bart), tmp_path / "converted")
    assert not (tmp_path / "converted").exists()


class Attack:
    """A pickle that would create a file when it is loaded without care."""

    def __reduce__(self) -> tuple:
        return Path.touch, (Path("attacked"),)


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps({"state_dict": Attack()}, protocol=2)])
def test_a_file_that_holds_no_weights_is_refused_and_never_run(
    bart: Path, tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint.pth").write_bytes(content)
    with pytest.raises(ConversionError, match=r"checkpoint\.pth"):
        convert_checkpoint(tmp_path / "checkpoint.pth", str(bart), tmp_path / "converted")
    assert not (tmp_path / "attacked").exists()


def test_a_bart_folder_without_its_vocabulary_is_refused(bart: Path, state_dict: dict, tmp_path: Path) -> None:
    (bart / "vocab.json").unlink()
    with pytest.raises(ConversionError, match=r"tokenizer in .*bart"):
        convert_checkpoint(write_checkpoint(state_dict, tmp_path), str(bart), tmp_path / "converted")


def test_another_kind_of_model_is_refused(bart: Path, state_dict: dict, tmp_path: Path) -> None:
    config = json.loads((bart / "config.json").read_text()) | {"model_type": "t5"}
    (bart / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConversionError, match="type t5, not bart"):
        convert_checkpoint(write_checkpoint(state_dict, tmp_path), str(bart), tmp_path / "converted")


def test_sizes_that_make_no_model_are_refused(bart: Path, state_dict: dict, tmp_path: Path) -> None:
    config = json.loads((bart / "config.json").read_text()) | {"encoder_attention_heads": 5}
    (bart / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConversionError, match="make no model"):
        convert_checkpoint(write_checkpoint(state_dict, tmp_path), str(bart), tmp_path / "converted")


def test_the_command_says_why_in_one_line_and_exits_with_2(
    bart: Path, state_dict: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    checkpoint = write_checkpoint(drop("bart.lm_head.weight")(state_dict), tmp_path)
    arguments = ["convert", str(checkpoint), "--bart", str(bart), "--output", str(tmp_path / "converted")]
    assert main([*arguments, "--pooling", "mean"]) == 2
    assert "--pooling does nothing without --audio_encoder" in capsys.readouterr().err
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "descant convert: the checkpoint lacks weights of the model: bart.lm_head.weight\n"
