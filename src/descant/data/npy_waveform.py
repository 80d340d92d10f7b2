"""The reference's preprocessed clips: `.npy` files of a mono float waveform at 16 kHz, padded with zeros to 30 s."""

from pathlib import Path

import numpy as np

from descant.data.audio import AudioError, resample

NPY_RATE = 16_000  # Hz
PADDED_SAMPLES = 30 * NPY_RATE


def load_npy_waveform(path: str | Path, sampling_rate: int = NPY_RATE) -> np.ndarray:
    """Reads a waveform (samples,) as float32 without its padding; raises AudioError, naming file and reason."""
    try:
        waveform = np.load(path, allow_pickle=False)  # a pickle could run anything
    except (OSError, ValueError, EOFError) as error:
        raise AudioError(path, f"is no .npy array that can be read ({error})") from error
    waveform = np.squeeze(waveform)
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise AudioError(path, f"is no mono float waveform, but {waveform.dtype} of shape {waveform.shape}")
    if not np.isfinite(waveform).all():
        raise AudioError(path, "holds NaN or infinite samples")
    if len(waveform) == PADDED_SAMPLES:
        waveform = np.trim_zeros(waveform, "b")
    if len(waveform) == 0:
        raise AudioError(path, "holds no sound")
    return waveform.astype(np.float32) if sampling_rate == NPY_RATE else resample(waveform, NPY_RATE, sampling_rate)
