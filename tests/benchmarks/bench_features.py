"""Cached features against the reference's way: how fast they are made and read, how large and how exact they are.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_features.py

The reference decodes each clip with an ffmpeg process, keeps it as a `.npy` waveform padded to 30 s, and computes the
mel with torchaudio whenever a clip is read. Here a clip is decoded by libsndfile, resampled by soxr, and its mel is
stored once. Both run over the same clips, the demo corpus's sounds at 44.1 kHz in stereo, in one process on one core.
Seconds are of this process and its children (user + system), so that other work on the machine counts little.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
import torchaudio

from descant.data.demo import demo_dir
from descant.data.download.fetch import find_ffmpeg
from descant.data.extraction import extract_features
from descant.data.features import FeatureStore
from descant.models.lp_music_caps import LPMusicCapsFeatureExtractor

CLIP_S = 10
RATE = 44_100
FORMATS = {"flac": "PCM_16", "wav": "PCM_16", "mp3": None, "ogg": None}
NPY_SAMPLES = 30 * 16_000


class ReferenceMel(torch.nn.Module):
    """The reference's front end as torchaudio modules, with its real part of the spectrum."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = torchaudio.transforms.Spectrogram(1024, 1024, 160, power=None)
        self.scale = torchaudio.transforms.MelScale(128, 16_000, 0, 8_000, 513)
        self.decibels = torchaudio.transforms.AmplitudeToDB()

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return self.decibels(self.scale(self.spectrum(waveform).real ** 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--reads", type=int, default=20_000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), args.clips, args.reads), indent=2))


def measure(folder: Path, clips: int, reads: int) -> dict:
    """All figures; × real time is seconds of sound a second of one core."""
    extractor = LPMusicCapsFeatureExtractor()
    result = {"clips": clips, "load_average": os.getloadavg()[0]}
    for kind in FORMATS:
        files = write_clips(folder / kind, kind, clips)
        store = FeatureStore(folder / f"store_{kind}", extractor.to_dict())
        extract_features(dict(list(files.items())[:2]), extractor, FeatureStore(folder / "warm", extractor.to_dict()))
        spent = seconds(lambda: extract_features(files, extractor, store, processes=1, progress=False))  # noqa: B023
        result[f"extract_{kind}_x_realtime"] = round(clips * CLIP_S / spent)
    store = FeatureStore(folder / "store_flac", extractor.to_dict())
    result |= measure_reading(store, reads) | measure_exactness(store, folder / "flac", extractor)
    return result | measure_reference(folder, clips, min(reads, 200))


def measure_reading(store: FeatureStore, reads: int) -> dict:
    names, out = list(store.keys()), np.empty(store.shape, np.float32)
    order = np.random.default_rng(0).integers(len(names), size=reads)
    for name in names:
        store.read(name, out=out)
    spent = seconds(lambda: [store.read(names[i], out=out) for i in order])
    return {"read_clips_per_s": round(reads / spent), "bytes_per_clip": store.record_bytes}


def measure_exactness(store: FeatureStore, folder: Path, extractor: LPMusicCapsFeatureExtractor) -> dict:
    from descant.data.audio import load_audio

    worst = 0.0
    for name in store.keys():  # noqa: SIM118 (a store is no dict)
        fresh = extractor.extract(load_audio(folder / f"{name}.flac")[: CLIP_S * 16_000])
        worst = max(worst, float(np.abs(store.read(name) - fresh).max()))
    return {"largest_error_db": round(worst, 5)}


def measure_reference(folder: Path, clips: int, reads: int) -> dict:
    (folder / "npy").mkdir()
    files = sorted((folder / "flac").glob("*.flac"))
    ffmpeg, mel = find_ffmpeg(), ReferenceMel()
    spent = seconds(lambda: [save_npy(ffmpeg, file, folder / "npy" / f"{file.stem}.npy") for file in files])
    arrays = sorted((folder / "npy").glob("*.npy"))
    read_npy_mel(arrays[0], mel)
    order = np.random.default_rng(0).integers(len(arrays), size=reads)
    reading = seconds(lambda: [read_npy_mel(arrays[i], mel) for i in order])
    return {
        "reference_prepare_x_realtime": round(clips * CLIP_S / spent),
        "reference_read_clips_per_s": round(reads / reading),
        "reference_bytes_per_clip": arrays[0].stat().st_size,
    }


def save_npy(ffmpeg: str, file: Path, target: Path) -> None:
    command = [ffmpeg, "-v", "quiet", "-i", str(file), "-ac", "1", "-ar", "16000", "-f", "f32le", "-"]
    waveform = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.float32)
    np.save(target, np.pad(waveform[:NPY_SAMPLES], (0, max(0, NPY_SAMPLES - len(waveform)))))


def read_npy_mel(file: Path, mel: ReferenceMel) -> torch.Tensor:
    waveform = np.load(file, mmap_mode="r")[: CLIP_S * 16_000]
    return mel(torch.from_numpy(np.array(waveform)))


def write_clips(folder: Path, kind: str, clips: int) -> dict[str, str]:
    """Clip name → file: the demo's sounds over and over, each a little different, in stereo."""
    folder.mkdir()
    sounds = sorted((demo_dir() / "audio").glob("*.ogg"))
    files = {}
    for number in range(clips):
        samples, rate = soundfile.read(sounds[number % len(sounds)], dtype="float32", always_2d=True)
        samples = soxr.resample(np.resize(samples[:, 0], CLIP_S * rate), rate, RATE)[: CLIP_S * RATE]
        stereo = np.stack([samples, 0.9 * np.roll(samples, 200 + number)], axis=1)
        files[f"clip{number:05d}"] = str(folder / f"clip{number:05d}.{kind}")
        soundfile.write(files[f"clip{number:05d}"], stereo, RATE, subtype=FORMATS[kind])
    return files


def seconds(work: Callable[[], object]) -> float:
    """Processor time of this process and its children."""
    before = os.times()
    work()
    after = os.times()
    return sum(after[:4]) - sum(before[:4])


if __name__ == "__main__":
    main()
