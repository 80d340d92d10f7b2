"""Tests of the maxima over frequency against torch's own convolutions."""

import pytest
import torch
from torch.nn.functional import conv2d, pad

from descant.models.musicnn import peak_convolution_musicnn
from descant.models.musicnn.peak_convolution_musicnn import temporal_peaks, timbral_peaks


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
