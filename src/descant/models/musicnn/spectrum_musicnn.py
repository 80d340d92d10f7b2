"""What a window's log-mel tells beside musicnn's networks, without weights: rhythm, timbre and tempo."""

import itertools
import math

import torch
from torch.nn.functional import conv1d, pad, relu

from .configuration_musicnn import MusicnnConfig

# Beat periods of the tempo state in frames: 240 to 40 beats a minute where a frame is 16 ms.
SHORTEST_BEAT, LONGEST_BEAT = 15.625, 93.75
BEATS, FINE = 4, 5  # repetitions of a beat that must fit, and periods of which the best counts
FIRST_LAG = 12  # frames, from which on repetitions are looked at
SMOOTHING = (1 / 12, 1 / 4, 1 / 3, 1 / 4, 1 / 12)  # a Hann window of five frames

States = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]


def hear_window(log_mel: torch.Tensor, config: MusicnnConfig) -> States:
    """Compute rhythm, timbre and tempo state (batch, width) of windows (batch, frames, mel bands).

    The last two are None where the configuration has none.
    """
    rhythm = onset_autocorrelation(log_mel, config.rhythm_bands, config.rhythm_lags)
    timbre = timbre_statistics(log_mel, config.timbre_cepstra) if config.timbre_size else None
    tempo = describe_tempo(log_mel, config.tempo_bands, config.tempo_periods) if config.tempo_size else None
    return rhythm, timbre, tempo


def onset_autocorrelation(log_mel: torch.Tensor, bands: int, lags: int) -> torch.Tensor:
    """Correlate a window's onsets with themselves some frames later: beats and bars are the lags where it is high.

    log_mel: (batch, frames, mel bands). Onsets are what the log-mel rises by from one frame to the next, summed over
    each of `bands` equal parts of the mel axis, less their mean; the silence that pads a window counts for neither.
    Returns (batch, bands × lags): for each part lags 1, 2, … over lag 0, so that 1 is a perfect repetition of all that
    came before; zeros for silence.
    """
    return correlate_onsets(log_mel, bands, lags).flatten(1)


def correlate_onsets(log_mel: torch.Tensor, bands: int, lags: int, smooth: bool = False) -> torch.Tensor:
    """Compute `onset_autocorrelation` as (batch, bands, lags); `smooth` spreads each onset over five frames."""
    rises = relu(log_mel[:, 1:] - log_mel[:, :-1])
    onsets = torch.stack([part.sum(dim=2) for part in rises.tensor_split(bands, dim=2)], dim=1)
    heard = find_heard(log_mel)[:, 1:]
    onsets = (onsets - mean_of(onsets.mT, heard)[:, :, None]) * heard[:, None]
    if smooth:
        onsets = conv1d(onsets.flatten(0, 1)[:, None], onsets.new_tensor(SMOOTHING)[None, None], padding=2)
        onsets = onsets[:, 0].unflatten(0, (-1, bands))  # of any number of windows, where this is traced
    correlation = autocorrelate(onsets, lags)
    return correlation[..., 1:] / (correlation[..., :1] + 1e-6)


def autocorrelate(onsets: torch.Tensor, lags: int) -> torch.Tensor:
    """Correlate (batch, bands, frames) with themselves 0 to `lags` frames later, (batch, bands, lags + 1)."""
    frames = onsets.shape[2]
    if torch.compiler.is_exporting():  # the products as such: other runtimes lose digits in long Fourier transforms
        later = torch.arange(lags + 1)[:, None] + torch.arange(frames)
        return (pad(onsets, (0, lags))[:, :, later] * onsets[:, :, None]).sum(dim=3)
    spectrum = torch.fft.rfft(onsets, n=2 * max(frames, lags + 1))
    return torch.fft.irfft(spectrum.abs().square())[..., : lags + 1]


def describe_tempo(log_mel: torch.Tensor, bands: int, periods: int) -> torch.Tensor:
    """Compute how well beats of some lengths fit, and where onsets repeat: (batch, bands × 2 × periods).

    Beats: the mean autocorrelation at one to four times a period; periods are equally far apart by their logarithms,
    and each stands for the best of `FINE` around it, since the fourth repetition of a beat is narrow. Repetitions: the
    highest autocorrelation in as many stretches of lags up to the longest four beats.
    """
    correlation = correlate_onsets(log_mel, bands, math.ceil(BEATS * LONGEST_BEAT) + 1, smooth=True)
    start, end = math.log(SHORTEST_BEAT), math.log(LONGEST_BEAT)
    beats = torch.linspace(start, end, FINE * periods, device=log_mel.device).exp()
    lags = beats * torch.arange(1, BEATS + 1, device=log_mel.device)[:, None] - 1  # the first value is of lag 1
    before, share = lags.long(), lags.frac()
    values = correlation[..., before] * (1 - share) + correlation[..., before + 1] * share
    fits = values.mean(dim=2).unflatten(2, (periods, FINE)).amax(dim=3)
    edges = [round(FIRST_LAG * (correlation.shape[2] / FIRST_LAG) ** (step / periods)) for step in range(periods + 1)]
    stretches = [correlation[..., low - 1 : max(high - 1, low)] for low, high in itertools.pairwise(edges)]
    return torch.cat([fits, torch.stack([one.amax(dim=2) for one in stretches], dim=2)], dim=2).flatten(1)


def timbre_statistics(log_mel: torch.Tensor, cepstra: int) -> torch.Tensor:
    """Compute statistics of the frames that are heard: (batch, 4 × mel bands + cepstra × (cepstra + 1) / 2).

    Of each mel band the mean, the standard deviation, and mean and root mean square of its rises; then the covariances
    of cepstral coefficients, which are the discrete cosine transform of a frame's log-mel.
    """
    heard = find_heard(log_mel)
    mean = mean_of(log_mel, heard)
    centred = log_mel - mean[:, None]
    rises = relu(log_mel[:, 1:] - log_mel[:, :-1])
    moments = [mean, mean_of(centred.square(), heard).sqrt(), mean_of(rises, heard[:, 1:]),
               mean_of(rises.square(), heard[:, 1:]).sqrt()]  # fmt: skip
    coefficients = centred @ cosines(log_mel.shape[2], cepstra).to(log_mel)
    weighted = coefficients * heard[..., None]
    covariances = weighted.mT @ coefficients / heard.sum(dim=1).clamp(min=1)[:, None, None]
    row, column = torch.triu_indices(cepstra, cepstra)
    return torch.cat([*moments, covariances[:, row, column]], dim=1)


def cosines(bands: int, count: int) -> torch.Tensor:
    """Return the first cosines (bands, count) of the orthonormal discrete cosine transform, but for the constant's
    norm.
    """
    angles = torch.pi / bands * torch.outer(torch.arange(bands) + 0.5, torch.arange(count))
    return math.sqrt(2 / bands) * angles.cos()


def find_heard(log_mel: torch.Tensor) -> torch.Tensor:
    """Return which frames (batch, frames) come before the silence that pads a window."""
    with_sound = (log_mel != 0).any(dim=2)
    return with_sound.int().flip(1).cumsum(dim=1).flip(1) > 0


def mean_of(states: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Mean over the second axis of (batch, items, width) where (batch, items) is true; of all items where none is."""
    weights = (where | ~where.any(dim=1, keepdim=True)).to(states.dtype)[..., None]
    return (states * weights).sum(dim=1) / weights.sum(dim=1)
