"""Tests of the shipped folder: it is what the converter writes, and hears what the original code did."""

from math import gcd
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from plain_musicnn import network_weights, plain_network
from transformers import AutoFeatureExtractor, AutoModel

import descant  # noqa: F401  (makes the Auto classes know the model)
from descant.data.demo import demo_dir
from descant.models.musicnn import PRETRAINED, MusicnnFeatureExtractor, MusicnnModel
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


PATCHES = 10


@pytest.fixture(scope="module")
def expected(shared_dir: Path) -> dict[str, np.ndarray]:
    with np.load(shared_dir / "reference/musicnn/orchestra.npz") as content:
        return dict(content)


@pytest.fixture(scope="module")
def log_mel(shared_dir: Path) -> torch.Tensor:
    """The recording's log-mel (1, frames, 96), of its waveform resampled as the original did."""
    audio, rate = soundfile.read(shared_dir / "data/audio/orchestra.wav")
    extractor = MusicnnFeatureExtractor.from_pretrained(PRETRAINED, window_s=30.0)
    waveform = resample(audio, rate, 16_000)[: extractor.num_samples].astype(np.float32)
    return extractor(waveform, sampling_rate=16_000, return_tensors="pt")["input_features"]


def resample(audio: np.ndarray, rate: int, target: int) -> np.ndarray:
    """The resampler of librosa 0.9 ("kaiser_best" of resampy 0.4): a windowed sinc with 50 zero crossings, read from a
    table of 8,192 values a crossing, whose step is cut to a whole number. Other resamplers roll off otherwise below
    8,000 Hz, which moves the topmost mel bands and with them probabilities by up to 0.1.
    """
    scale, zeros, steps = target / rate, 50, 8192
    roll_off, beta = 0.9173473712608761, 12.984585247040012
    table = scale * roll_off * np.sinc(roll_off * np.linspace(0, zeros, zeros * steps + 1))
    table *= np.kaiser(2 * zeros * steps + 1, beta)[zeros * steps :]
    rises = np.append(np.diff(table), 0)
    step, taps = int(scale * steps), zeros * steps // int(scale * steps) + 2
    phases, period = target // gcd(rate, target), rate // gcd(rate, target)
    rows = len(audio) // period
    padded = np.pad(audio, (taps, taps + period))
    result = np.zeros((rows, phases))
    for phase in range(phases):
        first = int(phase / scale)
        weights = np.zeros(2 * taps)  # of the samples before and at the new one, then of those after it
        for side, position in enumerate((phase / scale - first, 1 - (phase / scale - first))):
            start = int(position * scale * steps)
            places = start + step * np.arange((len(table) - start) // step)
            wing = table[places] + (position * scale * steps - start) * rises[places]
            where = slice(taps, taps + len(wing)) if side else slice(taps - 1, taps - 1 - len(wing), -1)
            weights[where] = wing
        windows = np.lib.stride_tricks.sliding_window_view(padded[first + 1 :], 2 * taps)[::period][:rows]
        result[:, phase] = windows @ weights
    return result.ravel()


def test_log_mel_is_the_original_one(log_mel: torch.Tensor, expected: dict[str, np.ndarray]) -> None:
    patches = log_mel[0, : 3 * 187].view(3, 187, 96).numpy()
    np.testing.assert_allclose(patches, expected["log_mel_first_3_patches"], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_tags_and_states_are_the_original_ones(log_mel: torch.Tensor, expected: dict[str, np.ndarray]) -> None:
    model = MusicnnModel.from_pretrained(PRETRAINED)
    output = model(log_mel)
    probabilities = output.tag_logits[0].sigmoid().split(50, dim=1)
    for index, name in enumerate(("mtt", "msd")):
        assert expected[f"{name}_tag_probabilities"].shape == (PATCHES, 50)
        found = probabilities[index].numpy()
        np.testing.assert_allclose(found, expected[f"{name}_tag_probabilities"], atol=1e-4, rtol=0)
        first = output.penultimate_states[0, index, 0].numpy()
        # TensorFlow's own rounding: in double precision these weights give ours within 3e-6.
        np.testing.assert_allclose(first, expected[f"{name}_penultimate_patch_0"], atol=3e-4, rtol=0)


@torch.inference_mode()
def test_a_string_orchestra_is_classical_to_the_shipped_weights(log_mel: torch.Tensor) -> None:
    model = MusicnnModel.from_pretrained(PRETRAINED)
    probabilities = model(log_mel).tag_logits.sigmoid().mean(dim=1)[0, :50]
    best = [model.config.tag_names[index] for index in probabilities.topk(3).indices]
    assert best == ["classical", "violin", "strings"]
