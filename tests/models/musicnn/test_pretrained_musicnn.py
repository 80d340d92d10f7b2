"""Tests of the folder that the package ships: it loads, is what the converter writes, and hears right."""

import pytest
import soundfile
import torch
from plain_musicnn import network_weights, plain_network
from transformers import AutoFeatureExtractor, AutoModel

import descant  # noqa: F401  (makes the Auto classes know the model)
from descant.data.demo import demo_dir
from descant.models.musicnn import PRETRAINED, MusicnnModel
from descant.models.musicnn.convert_musicnn_to_hf import CARD, LICENCE


@pytest.fixture(scope="module")
def shipped() -> MusicnnModel:
    return AutoModel.from_pretrained(PRETRAINED)


def test_the_folder_holds_no_code_and_the_licence_of_its_authors(shipped: MusicnnModel) -> None:
    names = {"LICENSE", "README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    assert {file.name for file in PRETRAINED.iterdir()} == names
    assert (PRETRAINED / "LICENSE").read_text() == LICENCE
    assert (PRETRAINED / "README.md").read_text() == CARD
    assert list(shipped.networks) == ["mtt", "msd"]


@torch.inference_mode()
def test_the_shipped_weights_are_plain_convolutions_on_a_clip(shipped: MusicnnModel) -> None:
    extractor = AutoFeatureExtractor.from_pretrained(PRETRAINED)
    audio, rate = soundfile.read(min((demo_dir() / "audio").glob("*.ogg")), dtype="float32")
    log_mel = extractor(audio, sampling_rate=rate, return_tensors="pt")["input_features"][:, : 2 * 187]
    output = shipped(log_mel)
    for index, name in enumerate(shipped.config.networks):
        expected = plain_network(network_weights(shipped, name), log_mel.view(2, 187, 96))
        found = output.tag_logits[0].split(50, dim=1)[index]
        torch.testing.assert_close(found.sigmoid(), expected["logits"].sigmoid(), atol=1e-5, rtol=0)
        penultimate = output.penultimate_states[0, index]
        assert penultimate.std() > 0.1
        torch.testing.assert_close(penultimate, expected["penultimate"], atol=1e-4, rtol=1e-5)
