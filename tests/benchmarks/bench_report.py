"""The page of 1,000 made-up tracks in headless Chromium: milliseconds until it can be used, and a picture of it.

    python tests/benchmarks/bench_report.py --output report [--tracks 1000] [--chromium chromium]
"""

import argparse
import json
import random
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from bench_search import make_up

from descant.collections.report import write_report

SOUNDS = 8  # different ones; the others are links to them


def write_sounds(folder: Path, count: int) -> list[Path]:
    """Write short rising tones, and links to them."""
    folder.mkdir(parents=True, exist_ok=True)
    songs = [folder / f"song {number}.wav" for number in range(count)]
    for number, song in enumerate(songs):
        times = np.arange(30 * 16_000) / 16_000
        if number < SOUNDS:
            tone = 0.2 * np.sin(2 * np.pi * (100 + 40 * number) * times * (1 + times / 20))
            soundfile.write(song, tone + 0.002 * np.random.default_rng(number).normal(size=len(times)), 16_000)
        elif not song.exists():
            song.symlink_to(songs[number % SOUNDS].name)
    return songs


def write_page(output: Path, count: int) -> Path:
    drawn, lines = random.Random(0), []
    for number, song in enumerate(write_sounds(output / "music", count)):
        made = make_up(number, drawn) | {"audio": str(song), "duration_s": 30.0}
        del made["states"]
        for name, answer in (*made["decisions"].items(), *made["decisions"]["instruments"].items()):
            if name != "instruments":
                answer["heard"] = [[0.0, 10.0], [20.0, 30.0]]
        lines.append(json.dumps(made) + "\n")
    (output / "descriptions.jsonl").write_text("".join(lines))
    write_report(output / "descriptions.jsonl", output)
    return output / "report.html"


def dump_page(page: Path, chromium: str, settle_ms: int = 0) -> str:
    """Return the document as it stands after its scripts have run, and after so much of the browser's virtual time."""
    browser = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    browser += [f"--virtual-time-budget={settle_ms}"] if settle_ms else []
    return subprocess.run([*browser, page.resolve().as_uri()], capture_output=True, text=True, check=True).stdout


def open_page(page: Path, chromium: str) -> dict[str, Any]:
    """Return milliseconds until the page was ready, by its own clock, and of the whole browser with its start."""
    began = time.perf_counter()
    shown = dump_page(page, chromium)
    whole = time.perf_counter() - began
    ready = re.search(r'<html[^>]*data-ready="(\d+)"', shown)
    if ready is None:
        raise RuntimeError("the page never was ready")
    return {"ready_ms": int(ready[1]), "browser_ms": round(1000 * whole), "articles": shown.count("<article")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--tracks", type=int, default=1000)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    args = parser.parse_args()
    page = write_page(args.output.resolve(), args.tracks)
    turns = [open_page(page, args.chromium) for _ in range(3)]
    picture = [args.chromium, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,1400"]
    shot = f"--screenshot={args.output.resolve() / 'screenshot.png'}"
    subprocess.run([*picture, "--virtual-time-budget=4000", shot, page.as_uri()], check=True, capture_output=True)
    print(json.dumps({"tracks": args.tracks, "page_bytes": page.stat().st_size, "turns": turns}, indent=2))


if __name__ == "__main__":
    main()
