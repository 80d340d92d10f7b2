"""Convolutions of one channel of which only the maximum over frequency is wanted: most of the networks' work.

A filter that is as high as two thirds of the spectrum slides over many positions. By the convolution theorem they cost
one product a frequency bin instead of one a filter tap: the frames of the spectrogram are transformed once (a Fourier
transform over the mel axis, of its 96 bands), each bin is multiplied by the transformed filter, and the wanted
positions come back by one matrix product. Positions lie symmetrically around the middle one, so what comes back is
C[n] - S[n] above it and C[n] + S[n] below, with C of the real and S of the imaginary parts: the maximum of both is
C[n] + |S[n]|, for half the work. All steps are matrix products small enough to stay in a core's cache. That is a
quarter of the operations of a direct convolution for filters over 38 bands, a fifth for 67.
"""

import math

import torch
from torch.nn.functional import conv2d, pad

# Frames × filters of one tile on a CPU: with all frequency bins 1.2 MB, about a core's second-level cache.
TILE = 3072
# On an accelerator a tile only bounds the memory.
ACCELERATOR_TILE = 1 << 20


def timbral_peaks(patches: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Correlate with filters over time and frequency, and take the maximum over frequency.

    patches: (patches, frames + kernel frames - 1, mel bands), padded in time. weight: (filters, kernel frames, kernel
        bands). Returns (patches, frames, filters).
    """
    count, _, bands = patches.shape
    filters, taps, height = weight.shape
    bins = bands // 2 + 1
    windows = _transform_frames(patches).unfold(2, taps, 1)  # (bins, patches, frames, 2 parts, taps)
    windows = windows.reshape(bins, -1, 2 * taps)  # (bins, positions, inputs)
    real, imaginary = _transform_filters(weight, bands)
    cosines, sines = _positions_above_middle(bands, bands - height + 1, weight)
    tile = max(8, (TILE if weight.device.type == "cpu" else ACCELERATOR_TILE) // filters)
    peaks = []
    for part in windows.split(tile, dim=1):
        even = cosines @ torch.bmm(part, real).view(bins, -1)
        odd = sines @ torch.bmm(part, imaginary).view(bins, -1)
        peaks.append((even + odd.abs()).amax(dim=0))
    return torch.cat(peaks).view(count, -1, filters)


def _transform_frames(patches: torch.Tensor) -> torch.Tensor:
    """Transform each frame over its mel bands, (patches, frames, bands) → (bins, patches, frames, 2 parts)."""
    return torch.view_as_real(torch.fft.rfft(patches, dim=2)).permute(2, 0, 1, 3).contiguous()


def _transform_filters(weight: torch.Tensor, bands: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Transform filters into two matrices a bin, each (bins, 2 parts × taps, filters).

    They give the real and the imaginary part of each bin of the correlation, shifted so that its middle position comes
    to 0, which lies between two where their number is even. Bins but the first and the middle one stand for two.
    """
    _, taps, height = weight.shape
    bins = _number_bins(bands, weight)
    share = (2.0 - ((bins == 0) | (2 * bins == bands)).double()) / bands
    shifts = torch.arange(height, device=bins.device) + (bands - height) / 2
    angles = 2 * math.pi / bands * bins[:, None] * shifts
    waves = (share[:, None, None] * torch.stack([angles.cos(), angles.sin()], dim=1)).to(weight)
    real, imaginary = torch.einsum("bph,fth->pbtf", waves, weight)
    first = torch.stack([real, -imaginary], dim=1)  # (bins, 2 parts, taps, filters)
    second = torch.stack([imaginary, real], dim=1)
    return first.flatten(1, 2), second.flatten(1, 2)


def _positions_above_middle(bands: int, positions: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Build the matrices (positions from the middle on, bins) of the inverse transform's cosines and sines."""
    bins = _number_bins(bands, like)
    places = torch.arange(positions // 2, positions, device=bins.device) - (positions - 1) / 2
    angles = 2 * math.pi / bands * bins * places[:, None]
    return angles.cos().to(like), angles.sin().to(like)


def _number_bins(bands: int, like: torch.Tensor) -> torch.Tensor:
    """Return the numbers of the frequency bins (bins,) in double precision, which Apple's GPUs do not have."""
    device = "cpu" if like.device.type == "mps" else like.device
    return torch.arange(bands // 2 + 1, device=device, dtype=torch.float64)


def temporal_peaks(patches: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Correlate each mel band over time with filters, and take the maximum over the bands.

    patches: (patches, frames, mel bands). weight: (filters, taps); patches are padded so that frames stay as many, of
        an even number of taps the larger part after the frame. Returns (patches, frames, filters).
    """
    filters, taps = weight.shape
    if filters == 0:
        return patches.new_zeros(*patches.shape[:2], 0)
    before = (taps - 1) // 2
    padded = pad(patches, (0, 0, before, taps - 1 - before))[:, None]
    weight = weight[:, None, :, None].contiguous()
    # Patch by patch, whose map (filters, frames, bands) stays in the cache until its maximum is taken.
    one_by_one = padded.device.type == "cpu" and not torch.compiler.is_exporting()
    groups = padded.split(1) if one_by_one else [padded]
    return torch.cat([conv2d(group, weight).amax(dim=3) for group in groups]).transpose(1, 2)
