"""How fast the model in the box is: a cold `descant ask`, `descant describe` of a folder, threads on a busy machine.

    python tests/benchmarks/bench_box_speed.py cold [--turns 5]        three questions about a song of 4 minutes
    python tests/benchmarks/bench_box_speed.py describe [--songs 12]   songs of 4 minutes in WAV, MP3 and FLAC
    python tests/benchmarks/bench_box_speed.py threads [--busy 2]      one thread, two that sleep, two that spin

Each run is a process of its own on one thread (`threads` and `--threads` say otherwise), and what is compared runs in
turn. Wall seconds depend on what else runs, CPU seconds much less: both are printed, as median and range, and as JSON.
The songs are made by a seed. `cold` is paired with the bare import of torch and transformers, and with that of
transformers' PreTrainedModel, which every model needs. What librosa and pyloudnorm measure is left out. How fast the
ears are beside plain convolutions: bench_musicnn.py.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import soundfile

QUESTIONS = ("What genre is it?", "Who sings?", "Which instruments are heard?")  # in free words and of a trained type
BARE = "import torch, transformers"
COMMAND = "import sys; sys.modules['librosa'] = None; from descant.cli import start; start()"
ENCODE = """
import json, sys, time
import torch
from descant.models.musicnn import PRETRAINED, MusicnnModel
model = MusicnnModel.from_pretrained(PRETRAINED).eval()
windows = 3 * torch.rand(int(sys.argv[1]), 561, 96, generator=torch.Generator().manual_seed(0))
with torch.inference_mode():
    model(windows[:1])
    wall, cpu = time.monotonic(), time.process_time()
    model(windows)
    print(json.dumps({"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu}))
"""
# Settings of OpenMP: what threads do that wait for another one.
WAITS: dict[str, dict[str, str]] = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "two, sleeping": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"},
    "two, spinning": {"OMP_NUM_THREADS": "2"},
}
LONGEST_S = 120
RATE = 44_100


@dataclass(frozen=True)
class Spent:
    """What a process took: seconds by the clock, and of processors in it and its children."""

    wall: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("cold", "describe", "threads"))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--songs", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=240, help="of each song")
    parser.add_argument("--threads", type=int, default=1, help="of torch; 0: as the command sets them")
    parser.add_argument("--busy", type=int, default=0, help="processes that are busy meanwhile")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, keep_busy(args.busy):
        if args.what == "cold":
            result = measure_cold(write_songs(Path(folder), 2, args.seconds)[1], args.turns, args.threads)
        elif args.what == "describe":
            write_songs(Path(folder) / "songs", args.songs, args.seconds)
            result = measure_describe(Path(folder), args.songs, args.threads)
        else:
            result = measure_threads(args.turns, windows=4)
    machine = {"cores": len(os.sched_getaffinity(0)), "load": round(os.getloadavg()[0], 1), "busy": args.busy}
    print(format_result(result))
    print(json.dumps(result | machine))


# Songs


def write_songs(folder: Path, count: int, seconds: int) -> list[Path]:
    """Write songs in WAV, MP3 and FLAC in turn: a melody with a drum and a brush, of a tempo of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"song{number:02d}.{('wav', 'mp3', 'flac')[number % 3]}" for number in range(count)]
    for number, path in enumerate(paths):
        soundfile.write(path, make_song(number, seconds), RATE)
    return paths


def make_song(seed: int, seconds: int) -> np.ndarray:
    """Return stereo samples (samples, 2) in float32."""
    generator = np.random.default_rng(seed)
    time, beat_s = np.arange(RATE * seconds) / RATE, 60 / (90 + 10 * (seed % 8))
    since = time % beat_s
    notes = generator.integers(0, 12, int(seconds / beat_s) + 1)
    pitch = 220 * 2 ** (notes[(time / beat_s).astype(int)] / 12)
    tones = sum(np.sin(2 * np.pi * pitch * part * time) / part for part in (1, 2, 3))
    drum = 2 * np.sin(2 * np.pi * 60 * since) * np.exp(-25 * since)
    brush = generator.standard_normal(len(time)) * np.exp(-60 * ((time + beat_s / 2) % beat_s))
    mixed = tones * np.exp(-4 * since / beat_s) + drum + brush / 2
    left = 0.8 * mixed / np.abs(mixed).max()
    return np.stack([left, np.roll(left, 300)], axis=1).astype(np.float32)


# Runs


def measure_cold(song: Path, turns: int, threads: int, model: str | None = None) -> dict[str, Any]:
    """Seconds of a cold `descant ask` and of bare imports, in turn, and what the command takes over each of them."""
    asked = [one for question in QUESTIONS for one in ("-q", question)]
    command = [COMMAND, "ask", *filter(None, [model]), str(song), *asked]
    ways = {
        "bare import": [BARE],
        "with PreTrainedModel": [f"{BARE}; from transformers import PreTrainedModel"],
        "ask": command,
    }
    spent = take_turns({name: lambda code=code: run(code, threads) for name, code in ways.items()}, turns)
    over = {
        f"ask over {name}": [Spent(ask.wall - one.wall, ask.cpu - one.cpu)
                             for ask, one in zip(spent["ask"], spent[name], strict=True)]
        for name in list(ways)[:2]
    }  # fmt: skip
    return {"what": "cold", "threads": threads, **summarise(spent | over)}


def measure_describe(folder: Path, songs: int, threads: int, model: str | None = None) -> dict[str, Any]:
    """Songs a minute of a whole `descant describe FOLDER`, by the clock and by CPU seconds, its start included."""
    output = folder / "descriptions.jsonl"
    named = ["--model", model] if model else []
    spent = run([COMMAND, "describe", *named, str(folder / "songs"), "--output", str(output)], threads)
    described = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    if len(described) != songs or any(one["measured"] for one in described):
        raise RuntimeError(f"{len(described)} of {songs} songs were described, or measured too")
    return {
        "what": "describe", "threads": threads, "songs": songs,
        "wall": round(spent.wall, 2), "cpu": round(spent.cpu, 2),
        "songs_a_minute": round(60 * songs / spent.wall, 1), "songs_a_cpu_minute": round(60 * songs / spent.cpu, 1),
    }  # fmt: skip


def measure_threads(turns: int, windows: int) -> dict[str, Any]:
    """Seconds in which musicnn encodes some windows, warm, by what its threads do while they wait."""
    spent = take_turns({name: lambda way=way: encode(windows, way) for name, way in WAITS.items()}, turns)
    return {"what": "threads", "windows": windows, **summarise(spent)}


def encode(windows: int, environment: dict[str, str]) -> Spent:
    others = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")}
    try:
        done = subprocess.run(
            [sys.executable, "-c", ENCODE, str(windows)], env=others | environment, capture_output=True, check=True,
            timeout=LONGEST_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Spent(float("inf"), float("inf"))
    return Spent(**json.loads(done.stdout))


def run(code: Sequence[str], threads: int) -> Spent:
    """Run Python code with arguments in a fresh process; raises RuntimeError where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": str(threads)} if threads else {}
    began = monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, "-c", *code], env=environment, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(said.read().decode(errors="replace")[-2000:])
    return Spent(monotonic() - began, usage.ru_utime + usage.ru_stime)


def take_turns(ways: dict[str, Callable[[], Spent]], turns: int) -> dict[str, list[Spent]]:
    spent: dict[str, list[Spent]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            spent[name].append(way())
    return spent


@contextmanager
def keep_busy(count: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


# Results


def summarise(spent: dict[str, list[Spent]]) -> dict[str, Any]:
    """Median and range, [median, least, most], of wall and CPU seconds."""
    return {
        name: {kind: spread([getattr(one, kind) for one in runs]) for kind in ("wall", "cpu")}
        for name, runs in spent.items()
    }


def spread(values: Sequence[float]) -> list[float]:
    return [round(value, 2) for value in (statistics.median(values), min(values), max(values))]


def format_result(result: dict[str, Any]) -> str:
    """Return a line for each way, or the pace of a folder."""
    if result["what"] == "describe":
        return (
            f"{result['songs']} songs in {result['wall']} s ({result['cpu']} s of processors): "
            f"{result['songs_a_minute']} songs a minute, {result['songs_a_cpu_minute']} a minute of one processor"
        )
    ways = {name: seconds for name, seconds in result.items() if isinstance(seconds, dict)}
    return "\n".join(
        f"{name:32} {wall[0]:6.2f} s ({wall[1]:.2f} to {wall[2]:.2f}), of processors {cpu[0]:.2f} "
        f"({cpu[1]:.2f} to {cpu[2]:.2f})"
        for name, (wall, cpu) in ((name, (one["wall"], one["cpu"])) for name, one in ways.items())
    )


if __name__ == "__main__":
    main()
