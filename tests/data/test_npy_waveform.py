"""The reference's .npy waveforms: read without their padding, refused with the reason."""

from pathlib import Path

import numpy as np
import pytest

from descant.data.audio import AudioError
from descant.data.npy_waveform import load_npy_waveform

SOUND = np.random.default_rng(0).uniform(-0.5, 0.5, 160_000).astype(np.float32)


def save(path: Path, waveform: np.ndarray) -> Path:
    np.save(path, waveform)
    return path


def test_zeros_up_to_thirty_seconds_are_padding(tmp_path: Path) -> None:
    path = save(tmp_path / "[abc]-[0-10].npy", np.pad(SOUND, (0, 320_000)))
    assert np.array_equal(load_npy_waveform(path), SOUND)


def test_silence_at_another_length_is_kept(tmp_path: Path) -> None:
    assert len(load_npy_waveform(save(tmp_path / "a.npy", np.pad(SOUND, (0, 1_000))))) == 161_000


def test_one_row_is_a_waveform_and_other_rates_are_resampled(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", SOUND[None].astype(np.float64))
    assert load_npy_waveform(path).dtype == np.float32 and len(load_npy_waveform(path, 24_000)) == 240_000


@pytest.mark.parametrize(
    ("waveform", "said"),
    [
        (np.zeros(480_000, np.float32), "no sound"),
        (np.zeros(0, np.float32), "no sound"),
        (np.full(100, np.nan, np.float32), "NaN"),
        (np.zeros(100, np.int16), "int16"),
        (np.zeros((2, 100), np.float32), "shape"),
        (np.array([{"a": 1}], dtype=object), "no .npy array"),
    ],
)
def test_what_is_no_waveform_is_told(tmp_path: Path, waveform: np.ndarray, said: str) -> None:
    with pytest.raises(AudioError, match=said):
        load_npy_waveform(save(tmp_path / "a.npy", waveform))


def test_a_file_cut_short_or_absent_is_told(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", SOUND)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(AudioError, match="no .npy array"):
        load_npy_waveform(path)
    with pytest.raises(AudioError, match="absent"):
        load_npy_waveform(tmp_path / "absent.npy")
