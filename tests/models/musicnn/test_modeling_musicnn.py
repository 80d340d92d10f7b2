"""Tests of the model against plain convolutions, of its maxima over frequency, its states, its training and saving."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from plain_musicnn import network_weights, plain_network, small_model
from torch.nn.functional import conv2d, pad
from transformers import AutoModel

import descant  # noqa: F401  (makes the Auto classes know the model)
from descant.models.musicnn import MusicnnConfig, MusicnnModel, peak_convolution_musicnn
from descant.models.musicnn.modeling_musicnn import MusicnnBranch
from descant.models.musicnn.peak_convolution_musicnn import temporal_peaks, timbral_peaks
from descant.models.musicnn.spectrum_musicnn import (
    LONGEST_BEAT,
    SHORTEST_BEAT,
    cosines,
    describe_tempo,
    onset_autocorrelation,
    timbre_statistics,
)


def windows(count: int = 2, frames: int = 65, bands: int = 12, seed: int = 0) -> torch.Tensor:
    """Log-mels as the front end gives them: never negative."""
    return 4 * torch.rand(count, frames, bands, generator=torch.Generator().manual_seed(seed))


def assert_is_plain(model: MusicnnModel, log_mel: torch.Tensor) -> None:
    """The model's output is that of plain convolutions over the windows' patches of 20 frames."""
    with torch.no_grad():
        output = model(log_mel, output_hidden_states=True)
        patches = log_mel[:, : log_mel.shape[1] // 20 * 20].reshape(-1, 20, 12)
        expected = [plain_network(network_weights(model, name), patches) for name in model.config.networks]
    batch, count = output.tag_logits.shape[:2]
    for index, network in enumerate(expected):
        found = {
            "penultimate": output.penultimate_states[:, index].flatten(0, 1),
            "frames": output.frame_states[:, index].flatten(0, 1),
        }
        for name, values in found.items():
            assert values.std() > 0.1
            torch.testing.assert_close(values, network[name], atol=1e-4, rtol=1e-5)
    logits = torch.cat([network["logits"] for network in expected], dim=1).view(batch, count, -1)
    torch.testing.assert_close(output.tag_logits, logits, atol=1e-4, rtol=1e-5)


def test_the_model_is_plain_convolutions(model: MusicnnModel) -> None:
    assert any((branch.norm.weight < 0).any() for branch in model.networks["low"].timbral)
    assert any((branch.norm.weight > 0).any() for branch in model.networks["low"].timbral)
    assert_is_plain(model, windows())


def test_dead_filters_are_left_out_and_keep_what_they_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    model, convolved = small_model(), []
    with torch.no_grad():
        for network in model.networks.values():
            for layer in (*network.timbral, *network.temporal, *network.mid):
                layer.weight[1:3] = 1e-15
                layer.bias[1:3] = torch.tensor([0.7, -0.7])
            network.temporal[0].weight[:] = 0
    find = MusicnnBranch.find_peaks

    def find_and_count(self: MusicnnBranch, patches: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        convolved.append(len(weight))
        return find(self, patches, weight)

    monkeypatch.setattr(MusicnnBranch, "find_peaks", find_and_count)
    assert_is_plain(model, windows())
    assert convolved == [4, 4, 1, 2] * 2


def test_states_of_a_patch_are_those_of_both_networks_and_the_rhythm(model: MusicnnModel) -> None:
    output = model(windows(2, 65), output_hidden_states=True)
    config = model.config
    assert config.hidden_size == 2 * 7 + 2 * 10
    assert output.last_hidden_state.shape == (2, 3, config.hidden_size)
    low, high, rhythm = output.last_hidden_state.split([7, 7, 20], dim=2)
    assert torch.equal(torch.stack([low, high], dim=1), output.penultimate_states)
    assert torch.equal(rhythm, output.rhythm_state[:, None].expand(-1, 3, -1))
    assert output.hidden_states == (output.last_hidden_state,)
    assert output.tag_logits.shape[2] == len(config.tag_names) == 5
    assert config.tag_names == ["calm", "slow", "loud", "fast", "calm"]
    assert torch.allclose(output.pooler_output, output.last_hidden_state.mean(dim=1), atol=1e-6)


def test_silent_patches_do_not_enter_the_pooled_state(model: MusicnnModel) -> None:
    sound = windows(1, 40)
    padded = torch.cat([sound, torch.zeros(1, 60, 12)], dim=1)
    alone, longer = model(sound), model(padded)
    assert longer.last_hidden_state.shape[1] == 5
    networks = slice(0, 14)
    assert torch.allclose(longer.pooler_output[:, networks], alone.pooler_output[:, networks], atol=1e-5)
    assert not torch.allclose(longer.last_hidden_state.mean(dim=1)[:, networks], alone.pooler_output[:, networks])
    assert model(torch.zeros(1, 40, 12)).pooler_output.isfinite().all()


def test_less_than_a_patch_is_padded_with_silence(model: MusicnnModel) -> None:
    short = windows(1, 7)
    padded = torch.cat([short, torch.zeros(1, 13, 12)], dim=1)
    assert torch.allclose(model(short).tag_logits, model(padded).tag_logits, atol=1e-6)


def test_a_batch_is_each_of_its_windows(model: MusicnnModel) -> None:
    both = windows(2, 400)  # 40 patches: more than one group
    output = model(both)
    for index in range(2):
        alone = model(both[index : index + 1]).last_hidden_state
        torch.testing.assert_close(output.last_hidden_state[index : index + 1], alone, atol=1e-5, rtol=1e-5)


def test_repeating_onsets_show_at_the_lags_of_their_period() -> None:
    log_mel = torch.zeros(1, 400, 12)
    log_mel[:, 3::20, :6] = 1.0  # below: every 20 frames
    log_mel[:, 3::28, 6:] = 1.0  # above: every 28
    low, high = onset_autocorrelation(log_mel, bands=2, lags=40).view(2, 40)
    assert low.argmax() == 20 - 1 and high.argmax() == 28 - 1
    assert low.max() > 0.9 and low[9] < 0.1
    louder = onset_autocorrelation(3 * log_mel, bands=2, lags=40)
    assert torch.allclose(louder[0], torch.cat([low, high]), atol=1e-4)
    padded = onset_autocorrelation(torch.cat([log_mel, torch.zeros(1, 300, 12)], dim=1), bands=2, lags=40)
    assert torch.allclose(padded[0], torch.cat([low, high]), atol=0.05)


def test_rhythm_of_silence_and_of_few_frames_is_finite() -> None:
    assert not onset_autocorrelation(torch.zeros(1, 50, 12), 2, 10).any()
    assert onset_autocorrelation(windows(1, 4), 2, 10).isfinite().all()


def test_timbre_and_tempo_states_come_last_where_they_are_asked_for(model: MusicnnModel) -> None:
    richer = small_model(timbre_cepstra=3, tempo_bands=2, tempo_periods=5)
    output, plain = richer(windows(2, 65)), model(windows(2, 65))
    assert plain.timbre_state is None and plain.tempo_state is None
    assert richer.config.hidden_size == 34 + (4 * 12 + 6) + 2 * 2 * 5
    first, timbre, tempo = output.last_hidden_state.split([34, 54, 20], dim=2)
    assert torch.equal(first, plain.last_hidden_state)
    assert torch.equal(timbre[:, 2], output.timbre_state) and torch.equal(tempo[:, 0], output.tempo_state)


def test_the_timbre_state_is_statistics_of_the_frames_that_are_heard() -> None:
    log_mel = windows(2, 50)
    state = timbre_statistics(log_mel, cepstra=3)
    rises = (log_mel[:, 1:] - log_mel[:, :-1]).clamp(min=0)
    levels = [log_mel.mean(dim=1), log_mel.std(dim=1, correction=0)]
    expected = [*levels, rises.mean(dim=1), rises.square().mean(dim=1).sqrt()]
    torch.testing.assert_close(state[:, :48], torch.cat(expected, dim=1))
    cepstra = torch.cov((log_mel[0] @ cosines(12, 3)).T, correction=0)
    torch.testing.assert_close(state[0, 48:], cepstra[*torch.triu_indices(3, 3)])
    torch.testing.assert_close(cosines(12, 12)[:, 1:].T @ cosines(12, 12)[:, 1:], torch.eye(11), atol=1e-5, rtol=0)
    padded = timbre_statistics(torch.cat([log_mel, torch.zeros(2, 30, 12)], dim=1), cepstra=3)
    torch.testing.assert_close(padded, state)
    assert not timbre_statistics(torch.zeros(1, 9, 12), cepstra=3).any()


def test_the_tempo_state_is_highest_at_the_beat() -> None:
    log_mel = torch.zeros(1, 600, 12)
    log_mel[:, 5::40] = 1.0
    fits = describe_tempo(log_mel, bands=1, periods=48)[0, :48]
    periods = torch.linspace(0, 1, 48).mul(torch.tensor(LONGEST_BEAT / SHORTEST_BEAT).log()).exp() * SHORTEST_BEAT
    assert periods[fits.argmax()] == pytest.approx(40, abs=2)
    assert describe_tempo(windows(1, 4), bands=2, periods=5).isfinite().all()


def test_one_training_step_moves_every_weight(model: MusicnnModel) -> None:
    model = deepcopy(model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    output = model(windows(4, 80))
    (output.tag_logits.square().mean() + output.last_hidden_state.square().mean()).backward()
    optimizer.step()
    still = [name for name, weight in model.named_parameters() if torch.equal(weight, before[name])]
    assert not still


@pytest.mark.parametrize("way", ["cast", "autocast"])
def test_bfloat16_does_not_reach_the_computation(model: MusicnnModel, way: str) -> None:
    expected = model(windows()).tag_logits
    if way == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(model(windows()).tag_logits, expected)
        return
    cast = deepcopy(model).to(torch.bfloat16)
    output = cast(windows().to(torch.bfloat16))
    assert output.last_hidden_state.dtype == torch.bfloat16
    as_stored = deepcopy(cast).float()(windows().to(torch.bfloat16).float())
    assert torch.equal(output.tag_logits, as_stored.tag_logits)


def test_a_saved_model_gives_the_same_and_one_network_loads_alone(model: MusicnnModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, attn_implementation="sdpa")
    assert type(loaded) is MusicnnModel
    expected = model(windows())
    assert torch.equal(loaded(windows()).last_hidden_state, expected.last_hidden_state)
    alone = AutoModel.from_pretrained(tmp_path, networks=["high"])
    assert alone.config.hidden_size == 7 + 20 and list(alone.networks) == ["high"]
    assert torch.equal(alone(windows()).penultimate_states[:, 0], expected.penultimate_states[:, 1])


def test_the_published_sizes_are_the_defaults() -> None:
    config = MusicnnConfig()
    assert (config.front_channels, config.frame_channels, config.hidden_size) == (561, 753, 800)
    assert [len(tags) for tags in config.tags.values()] == [50, 50]
    assert (config.tag_names[0], config.tag_names[49], config.tag_names[50], config.tag_names[99]) == (
        "guitar", "choral", "rock", "happy",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"networks": ["mtt", "xyz"]}, "give one or more of mtt, msd"),
        ({"networks": []}, "give one or more of mtt, msd"),
        ({"timbral_kernels": [[7, 97]]}, "spans over num_mel_bins, 96"),
    ],
)
def test_unusable_settings_are_refused(settings: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        MusicnnConfig(**settings)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Mel bands and bands of a filter: even and odd, with an even and an odd number of positions, with one and all but one.
SIZES = [(12, 5), (12, 6), (13, 5), (13, 6), (12, 12), (13, 13), (12, 1), (96, 38), (96, 67)]


@pytest.mark.parametrize(("bands", "height"), SIZES)
def test_timbral_peaks_are_the_maxima_of_a_convolution(bands: int, height: int) -> None:
    patches, weight = random(2, 17, bands), random(5, 3, height, seed=1)
    maps = conv2d(patches[:, None], weight[:, None])  # (patches, filters, frames, positions)
    torch.testing.assert_close(
        timbral_peaks(patches, weight), maps.amax(dim=3).transpose(1, 2), atol=1e-4, rtol=1e-5
    )


def test_tiles_do_not_change_the_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    patches, weight = random(3, 40, 12), random(5, 3, 4, seed=1)
    whole = timbral_peaks(patches, weight)
    monkeypatch.setattr(peak_convolution_musicnn, "TILE", 5 * 7)
    torch.testing.assert_close(timbral_peaks(patches, weight), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("taps", [1, 4, 7, 30])
def test_temporal_peaks_are_the_maxima_of_a_convolution(taps: int) -> None:
    patches, weight = random(2, 17, 12), random(5, taps, seed=1)
    before = (taps - 1) // 2
    maps = conv2d(pad(patches, (0, 0, before, taps - 1 - before))[:, None], weight[:, None, :, None])
    assert maps.shape == (2, 5, 17, 12)
    torch.testing.assert_close(
        temporal_peaks(patches, weight), maps.amax(dim=3).transpose(1, 2), atol=1e-4, rtol=1e-5
    )


def test_gradients_are_those_of_a_convolution() -> None:
    patches, weight = random(1, 9, 12).double(), random(2, 3, 5, seed=1).double()
    gradients = []
    for peaks in (timbral_peaks, lambda p, w: conv2d(p[:, None], w[:, None]).amax(dim=3).transpose(1, 2)):
        inputs = [values.clone().requires_grad_() for values in (patches, weight)]
        loss = (peaks(*inputs) * random(1, 7, 2, seed=2)).sum()
        gradients.append(torch.autograd.grad(loss, inputs))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)


def test_double_precision_is_asked_of_no_device_that_lacks_it() -> None:
    bins = peak_convolution_musicnn._number_bins(96, SimpleNamespace(device=torch.device("mps")))
    assert (bins.device.type, bins.dtype, len(bins)) == ("cpu", torch.float64, 49)
