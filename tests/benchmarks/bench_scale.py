"""What a track costs, for plans of millions: processor time, bytes, and what the process that writes has to do.

    python tests/benchmarks/bench_scale.py track --output FOLDER [--model box] [--tracks 6] [--seconds 240]
    python tests/benchmarks/bench_scale.py writer --output FOLDER [--songs 10000]
    python tests/benchmarks/bench_scale.py ray --output FOLDER [--songs 2000]

track: processor seconds of describing made-up tracks (clips of the embedded corpus in a row, stereo, 44.1 kHz) on one
thread, with the model loaded, with and without what descant[measure] measures, of reading alone and of decoding alone;
bytes of a description. writer: seconds and memory of the process that appends descriptions and publishes them, with a
model that costs nothing. ray: the same through a Ray cluster of this machine: the most that one driver can take.
"""

import argparse
import json
import random
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import numpy as np
import soundfile
from bench_search import make_up

from descant.collections.describing import Job, describe_songs, write_table
from descant.collections.engines import OneProcess, RayCluster
from descant.data.audio import stream_audio
from descant.data.demo.corpus import DATA_DIR
from descant.files import to_line

RATE = 44_100
KINDS = ("mp3", "flac")
SETTINGS = {"weights": "none", "hear": 12, "states": True}


def make_track(path: Path, seconds: float, seed: int) -> None:
    """Write clips of the corpus in a row, twice the same channel."""
    clips = sorted((DATA_DIR / "audio").glob("*.ogg"))
    drawn, pieces, length = random.Random(seed), [], 0
    while length < seconds * RATE:
        samples, rate = soundfile.read(drawn.choice(clips), dtype="float32", always_2d=True)
        times = np.arange(0, len(samples) / rate, 1 / RATE)
        pieces.append(np.interp(times, np.arange(len(samples)) / rate, samples[:, 0]))
        length += len(times)
    track = np.concatenate(pieces)[: round(seconds * RATE)]
    soundfile.write(path, np.stack([track, track], axis=1), RATE, format=path.suffix[1:].upper())


def read(path: Path) -> None:
    """Read a track as descant does: decoded, checked, mixed, resampled."""
    for _ in stream_audio(path, 16_000):
        pass


def decode(path: Path) -> None:
    """Decode a track and do nothing with it."""
    with av.open(str(path)) as container:
        for _ in container.decode(audio=0):
            pass


def spend(run: Callable[[Path], Any], paths: Sequence[Path]) -> tuple[list[float], list[Any]]:
    """Return the processor seconds of each call, and what the calls returned."""
    spent, results = [], []
    for path in paths:
        began = time.process_time()
        results.append(run(path))
        spent.append(time.process_time() - began)
    return spent, results


def measure_track(folder: Path, model: str, tracks: int, seconds: float) -> dict[str, Any]:
    import torch

    from descant.answering.description import Describer
    from descant.answering.listener import Listener

    torch.set_num_threads(1)
    found: dict[str, Any] = {"seconds": seconds, "tracks": tracks, "model": model}
    describer = Describer(Listener.load(model, device="cpu"), SETTINGS["hear"], states=True)
    for kind in KINDS:
        paths = [folder / f"track {number}.{kind}" for number in range(tracks)]
        for number, path in enumerate(paths):
            if not path.exists():
                make_track(path, seconds, number)
        describer.describe(paths[0])  # warm
        whole, _ = spend(describer.describe, paths)
        with patch("descant.answering.description.measure", lambda path: None):
            spent, descriptions = spend(describer.describe, paths)
        reading, _ = spend(read, paths)
        decoding, _ = spend(decode, paths)
        lines = [to_line(one) for one in descriptions]
        bare = [to_line({name: value for name, value in one.items() if name != "states"}) for one in descriptions]
        write_table(folder / "rows.parquet", descriptions, "long")
        found[kind] = {
            "describe_cpu_s": statistics.median(spent), "worst_s": max(spent),
            "describe_and_measure_cpu_s": statistics.median(whole), "read_cpu_s": statistics.median(reading),
            "decode_cpu_s": statistics.median(decoding),
            "file_bytes": statistics.mean(path.stat().st_size for path in paths),
            "line_bytes": statistics.mean(map(len, lines)), "line_without_states": statistics.mean(map(len, bare)),
            "parquet_bytes": (folder / "rows.parquet").stat().st_size / tracks,
        }  # fmt: skip
    return found


class Made:
    """A model that costs nothing."""

    def __init__(self) -> None:
        self.template = make_up(0, random.Random(0))
        self.template["states"] = [float(value) for value in self.template["states"]]

    def load(self) -> Callable[[str], dict[str, Any]]:
        return lambda song: self.template | {"audio": song}


def measure_engine(folder: Path, songs: int, engine: OneProcess) -> dict[str, Any]:
    names = [f"music/{number}.mp3" for number in range(songs)]
    for path in folder.glob("d.*"):
        path.unlink()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, worked = time.perf_counter(), time.process_time()
    outcome = describe_songs(names, Made().load, Job(folder / "d.parquet", SETTINGS), engine)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "songs": outcome.described, "seconds": time.perf_counter() - began,
        "cpu_s_a_song": (time.process_time() - worked) / songs, "peak_kib_a_song": grown / songs,
        "log_bytes_a_song": (folder / "d.jsonl").stat().st_size / songs,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("track", "writer", "ray"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model", default="box")
    parser.add_argument("--tracks", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--songs", type=int, default=2000)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    if args.what == "track":
        result = measure_track(args.output, args.model, args.tracks, args.seconds)
    else:
        result = measure_engine(args.output, args.songs, RayCluster() if args.what == "ray" else OneProcess())
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
