"""Changes to a training clip's log-mel that keep what its questions ask about."""

import numpy as np

MAX_GAIN_DB = 6.0
MAX_TILT_DB = 3.0
MAX_BAND_SHIFT = 3
MASKED_BANDS = 6
MASKED_FRAMES = 30


def augment_mel(mel: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Roll in time, shift by a few bands, change level and tilt, mask one band and one stretch.

    Args:
        mel: (bands, frames) in dB.
        random: the only source of randomness.

    Masks are those of SpecAugment (Park et al. 2019, arXiv 1904.08779), filled with the clip's mean.
    """
    bands, frames = mel.shape
    mel = np.roll(mel, int(random.integers(frames)), axis=1)
    mel = _shift_bands(mel, int(random.integers(-MAX_BAND_SHIFT, MAX_BAND_SHIFT + 1)))
    tilt = random.uniform(-MAX_TILT_DB, MAX_TILT_DB) * np.linspace(-0.5, 0.5, bands, dtype=np.float32)
    mel = mel + tilt[:, None] + np.float32(random.uniform(-MAX_GAIN_DB, MAX_GAIN_DB))
    mean = mel.mean(dtype=np.float32)
    first = int(random.integers(bands - MASKED_BANDS))
    mel[first : first + int(random.integers(MASKED_BANDS + 1))] = mean
    first = int(random.integers(frames - MASKED_FRAMES))
    mel[:, first : first + int(random.integers(MASKED_FRAMES + 1))] = mean
    return mel.astype(np.float32, copy=False)


def _shift_bands(mel: np.ndarray, shift: int) -> np.ndarray:
    """Move the spectrum up by `shift` bands, repeating the edge band."""
    source = np.clip(np.arange(len(mel)) - shift, 0, len(mel) - 1)
    return mel[source]
