"""Sound files for tests, and the reason that reading a bad one gives."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from descant.data.audio import AudioError, load_audio, stream_windows


def tone(seconds: float, rate: int = 44_100, channels: int = 1, hertz: float = 440.0) -> np.ndarray:
    wave = 0.25 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    noise = 0.001 * np.random.default_rng(0).standard_normal((len(wave), channels))
    return (wave[:, None] + noise).astype(np.float32)


def write(path: Path, seconds: float = 3.0, rate: int = 44_100, channels: int = 1, **kwargs: str) -> Path:
    soundfile.write(path, tone(seconds, rate, channels), rate, **kwargs)
    return path


def reason(path: Path | str) -> str:
    """Return the reason that reading gives; reading by windows must give the same before the first one."""
    with pytest.raises(AudioError) as loaded:
        load_audio(path)
    with pytest.raises(AudioError) as checked:
        stream_windows(path)
    assert checked.value.reason == loaded.value.reason
    assert str(loaded.value) == f"{path}: {loaded.value.reason}"
    return loaded.value.reason


def loudest_hertz(waveform: np.ndarray, rate: int = 16_000) -> float:
    return float(np.fft.rfft(waveform).__abs__().argmax() * rate / len(waveform))
