"""Tests of converting the fork's projectors, and of what is refused."""

from pathlib import Path

import pytest
import torch
from tiny_mert_lm import WINDOW_S
from transformers import AutoModelForMultimodalLM, AutoProcessor

from descant.cli import main
from descant.models.mert_lm.convert_mert_lm_to_hf import ConversionError, convert_checkpoint


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
