"""The whole of MusicCaps and MusicInstruct by size: built, killed, gone on with, read by DataLoader workers.

    python tests/benchmarks/scale_datasets.py --annotations musiccaps-public.csv --work /tmp/scale

Every row of the real annotation file gets a sound of its own, made from its id. The builder runs once undisturbed and
once with kill -9 at seeded points of its way, and both must end with the same features and rows. MusicInstruct is made
at its real size (27,540 short and 32,953 long pairs over 5,479 clips) and built from the warm store. Prints figures as
JSON; memory is the proportional set size of the whole process tree.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import soundfile
from torch.utils.data import DataLoader, Dataset

from descant.data.annotations import make_clip_id
from descant.data.features import FeatureStore

SCRIPTS = Path(__file__).resolve().parents[2] / "datasets_scripts"
RATE = 16_000
QUESTIONS = {"short": (27_540, 16), "long": (32_953, 99)}  # pairs, words of an answer
CLIPS_WITH_QUESTIONS = 5_479


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--clips", type=int, help="only the first of them")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    rows = read_rows(args.annotations, args.clips)
    table = write_table(args.work / "musiccaps.csv", rows)
    write_sounds(args.work / "clips", rows)
    result = {"clips": len(rows), "load_average": os.getloadavg()[0]}
    result |= measure_build(args.work, table, len(rows), args.kills)
    result |= measure_questions(args.work, table, rows)
    result |= measure_loader(open_store(args.work / "whole"))
    print(json.dumps(result, indent=2))


def read_rows(annotations: Path, clips: int | None) -> list[dict[str, str]]:
    with open(annotations, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))[:clips]


def write_table(path: Path, rows: list[dict[str, str]]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_sounds(folder: Path, rows: list[dict[str, str]]) -> None:
    """Ten seconds a row, of tones that its id decides; what is there already stays."""
    folder.mkdir(exist_ok=True)
    at = np.arange(10 * RATE) / RATE
    for row in rows:
        name = make_clip_id(row["ytid"], float(row["start_s"]), float(row["end_s"]))
        path = folder / f"{name}.flac"
        if path.exists():
            continue
        seed = int(hashlib.sha256(row["ytid"].encode()).hexdigest()[:8], 16)
        pitches = np.random.default_rng(seed).uniform(60, 4000, 3)
        samples = sum(0.2 * np.sin(2 * np.pi * pitch * at) for pitch in pitches)
        soundfile.write(path, samples, RATE)


def measure_build(work: Path, table: Path, clips: int, kills: int) -> dict:
    began = time.monotonic()
    peak = run_to_end(command(work, "whole", "musiccaps.py", table), work)
    undisturbed = time.monotonic() - began
    points = sorted(np.random.default_rng(0).uniform(0.01, 1.08, kills))
    for number, point in enumerate(points):
        kill_at(point, work, command(work, "killed", "musiccaps.py", table), clips)
        stored = len(open_store(work / "killed")) if (work / "killed").exists() else 0
        print(f"kill {number + 1} at {point:.2f} of the way: {stored} features stored", file=sys.stderr)
    peak = max(peak, run_to_end(command(work, "killed", "musiccaps.py", table), work))
    whole, killed = open_store(work / "whole"), open_store(work / "killed")
    assert len(whole) == clips and whole.verify() == [] and killed.verify() == []
    assert whole.manifest() == killed.manifest(), "the features differ"
    assert read_output(work / "whole_out") == read_output(work / "killed_out"), "the rows differ"
    return {
        "build_s": round(undisturbed),
        "kills": kills,
        "equal_manifest": True,
        "peak_memory_mb": round(peak / 2**20),
        "shards_after_kills": len(list(killed.folder.glob("shard-*.bin"))),
    }


def command(work: Path, name: str, script: str, table: Path, *options: str) -> list[str]:
    places = ["--features", work / name, "--output", work / f"{name}_out"]
    sounds = ["--annotations", table, "--audio_dir", work / "clips"] if script == "musiccaps.py" else []
    return [sys.executable, *map(str, [SCRIPTS / script, *sounds, *places, *options])]


def environment(work: Path) -> dict[str, str]:
    return os.environ | {"HF_HOME": str(work / "hf_home"), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


def run_to_end(arguments: list[str], work: Path) -> int:
    """Runs a build; returns its largest memory in bytes."""
    process = subprocess.Popen(arguments, env=environment(work), stdout=sys.stderr)
    peak = max(tree_memory(process))
    assert process.wait() == 0, f"status {process.returncode}"
    return peak


def tree_memory(process: subprocess.Popen) -> Iterator[int]:
    yield 0
    while process.poll() is None:
        time.sleep(0.5)
        parts = []
        for member in (psutil.Process(process.pid), *children(process.pid)):
            try:
                parts.append(member.memory_full_info().pss)
            except psutil.Error:  # it has ended meanwhile
                continue
        yield sum(parts)


def children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def kill_at(point: float, work: Path, arguments: list[str], clips: int) -> None:
    """Kills a build when that share of the features is stored; past 1 it is killed while the rows are written."""
    process = subprocess.Popen(arguments, env=environment(work), stdout=sys.stderr)
    wait_for(lambda: process.poll() is not None or stored_share(work / "killed", clips) >= min(point, 1.0))
    if point > 1:
        time.sleep(50 * (point - 1))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.5)  # the workers end with it


def stored_share(root: Path, clips: int) -> float:
    indexes = list(root.glob("*/index.jsonl"))
    return sum(line.startswith(b"{") for line in indexes[0].read_bytes().split(b"\n")) / clips if indexes else 0.0


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.05)


def open_store(root: Path) -> FeatureStore:
    return FeatureStore.open(next(root.glob("*/settings.json")).parent)


def read_output(folder: Path) -> dict[str, list]:
    import pyarrow.parquet

    return {path.name: pyarrow.parquet.read_table(path).to_pylist() for path in sorted(folder.glob("*/*.parquet"))}


def measure_questions(work: Path, table: Path, rows: list[dict[str, str]]) -> dict:
    folder = work / "music_instruct"
    folder.mkdir(exist_ok=True)
    asked = rows[:CLIPS_WITH_QUESTIONS]
    for kind, (pairs, words) in QUESTIONS.items():
        (folder / f"music_instruct_{kind}.json").write_text(json.dumps({"QA": make_pairs(kind, pairs, words, asked)}))
    options = ["--dataset_config", "all", "--annotations", str(folder), "--musiccaps", str(table)]
    arguments = command(work, "whole", "music_instruct.py", table, *options)
    arguments[arguments.index("--output") + 1] = str(work / "questions_out")
    began = time.monotonic()
    peak = run_to_end(arguments, work)
    built = sum(len(part) for part in read_output(work / "questions_out").values())
    return {
        "questions": built,
        "questions_build_s": round(time.monotonic() - began, 1),
        "questions_peak_memory_mb": round(peak / 2**20),
    }


def make_pairs(kind: str, pairs: int, words: int, rows: list[dict[str, str]]) -> list[dict]:
    choice = random.Random(kind)
    vocabulary = " ".join(row["caption"] for row in rows[:500]).split()
    return [
        {
            "ytid": row["ytid"],
            "question": f"{kind} question {number // len(rows)} about this music?",
            "answer": " ".join(choice.choices(vocabulary, k=max(1, round(choice.gauss(words, words / 4))))),
            "is_audioset_eval": row["is_audioset_eval"] == "True",
        }
        for number in range(pairs)
        for row in [rows[number % len(rows)]]
    ]


class StoredMels(Dataset):
    """Random clips of a store, with the private memory of the worker that read them."""

    def __init__(self, store: FeatureStore, reads: int):
        self.store, self.names = store, list(store.keys())
        self.order = np.random.default_rng(0).integers(len(self.names), size=reads)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> tuple[float, int]:
        mel = self.store.read(self.names[self.order[index]])
        private = psutil.Process().memory_full_info().uss if index % 500 == 0 else 0
        return float(mel[0, 0]), private


def measure_loader(store: FeatureStore, reads: int = 40_000) -> dict:
    before = psutil.Process().memory_full_info().uss
    began = time.monotonic()
    loader = DataLoader(StoredMels(store, reads), batch_size=64, num_workers=2)
    private = max(int(batch[1].max()) for batch in loader)
    size = sum(shard.stat().st_size for shard in store.folder.glob("shard-*.bin"))
    return {
        "store_mb": round(size / 2**20),
        "loader_private_memory_mb": round(private / 2**20),
        "parent_private_memory_mb": round(before / 2**20),
        "loader_clips_per_s": round(reads / (time.monotonic() - began)),
    }


if __name__ == "__main__":
    main()
