"""An extractor of NumPy alone: processes that compute with it start in a second, since nothing imports torch."""

import os
import signal
import time
from dataclasses import dataclass

import numpy as np

from descant.data.extraction import extract_features
from descant.data.features import FeatureStore

BANDS, FRAMES = 4, 25
SETTINGS = {"feature_shape": [BANDS, FRAMES]}


@dataclass(frozen=True)
class PlainExtractor:
    """Levels in decibels of the bands of a short spectrum."""

    sampling_rate: int = 16_000
    window_s: float = 0.5
    pause_s: float = 0.0

    def extract(self, waveform: np.ndarray) -> np.ndarray:
        """Return (BANDS, FRAMES)."""
        time.sleep(self.pause_s)
        padded = np.zeros(round(self.window_s * self.sampling_rate))
        padded[: len(waveform)] = waveform[: len(padded)]
        power = np.abs(np.fft.rfft(padded.reshape(FRAMES, -1), axis=1)) ** 2
        return 10 * np.log10(1e-10 + power[:, : power.shape[1] // BANDS * BANDS].reshape(FRAMES, BANDS, -1).mean(2)).T


class DeadlyExtractor(PlainExtractor):
    """Ends its process, as the system does where memory is short."""

    def extract(self, waveform: np.ndarray) -> np.ndarray:
        """Return nothing."""
        os.kill(os.getpid(), signal.SIGKILL)
        return waveform


class StoppingExtractor(PlainExtractor):
    """Computes a few features, then waits: what is to be killed amid its work cannot have ended before."""

    def extract(self, waveform: np.ndarray) -> np.ndarray:
        """Return (BANDS, FRAMES), nine times in a process."""
        done.append(1)
        if len(done) > 9:
            time.sleep(600)
        return super().extract(waveform)


done: list[int] = []  # by the extractors of this process that stop


def extract_slowly_over_two_processes(clips: dict[str, str], store: FeatureStore) -> None:
    """Compute for as long as there are clips."""
    extract_features(clips, PlainExtractor(pause_s=0.004), store, processes=2)
