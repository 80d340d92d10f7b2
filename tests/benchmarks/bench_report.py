"""The page of 1,000 made-up tracks in headless Chromium: milliseconds until it can be used, and a picture of it.

    python tests/benchmarks/bench_report.py --output report [--tracks 1000] [--chromium chromium]

Of an open browser, as a reader has one, by its own clock from the beginning of the navigation: the load event, the
first paint, and `usable`, when the next frame is painted and a script gets its turn. An empty page beside it says
what the browser itself takes on this machine. `thread_cpu_ms` is the processor time of the thread that does all of the
page's work, which another program's load does not lengthen, and `browser_cpu_s` that of all the browser's processes.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from bench_search import make_up

from descant.collections.report import write_report

sys.path.append(str(Path(__file__).parents[1]))  # pytest puts it there itself
from browser_page import Browser  # noqa: E402

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


# Runs in the page: waits for the load event and for a frame after it.
TIMES = """new Promise((resolve) => {
  const answer = () => requestAnimationFrame(() => setTimeout(() => {
    const entry = performance.getEntriesByType("navigation")[0];
    const paint = performance.getEntriesByName("first-contentful-paint")[0];
    resolve(JSON.stringify({
      script_ms: Number(document.documentElement.dataset.ready || 0), load_ms: Math.round(entry.loadEventEnd),
      paint_ms: paint ? Math.round(paint.startTime) : null, usable_ms: Math.round(performance.now()),
      articles: document.querySelectorAll("article").length,
    }));
  }));
  document.readyState === "complete" ? answer() : addEventListener("load", answer);
})"""


class Reader(Browser):
    """A browser that opens pages and says how long they take."""

    def open(self, address: str) -> dict[str, Any]:
        """Open a page in a new tab, and return its times."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Performance.enable", session, timeDomain="threadTicks")
        self.call("Page.navigate", session, url=address)
        while True:
            asked = {"expression": TIMES, "awaitPromise": True, "returnByValue": True}
            try:
                found = self.call("Runtime.evaluate", session, **asked)["result"]["value"]
                break
            except RuntimeError as error:  # the empty page before it has just gone
                if "navigated" not in str(error) and "destroyed" not in str(error):
                    raise
        spent = {one["name"]: one["value"] for one in self.call("Performance.getMetrics", session)["metrics"]}
        self.call("Target.closeTarget", targetId=target)
        return json.loads(found) | {"thread_cpu_ms": round(1000 * spent["TaskDuration"])}


def measure_page(page: Path, chromium: str, turns: int = 5) -> dict[str, Any]:
    """Return the times of a page, and of an empty one, in each of some turns, each in a browser of its own."""
    empty = page.with_name("empty.html")
    empty.write_text("<!doctype html><title>empty</title><p>nothing</p>")
    found: dict[str, Any] = {}
    for name, path in (("page", page), ("empty", empty)):
        rows = []
        for _ in range(turns):
            browser = Reader(chromium)
            times = browser.open(path.resolve().as_uri())
            rows.append(times | {"browser_cpu_s": round(browser.close(), 2)})
        found[name] = rows
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--tracks", type=int, default=1000)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    args = parser.parse_args()
    page = write_page(args.output.resolve(), args.tracks)
    found = measure_page(page, args.chromium)
    picture = [args.chromium, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,1400"]
    shot = f"--screenshot={args.output.resolve() / 'screenshot.png'}"
    subprocess.run([*picture, "--virtual-time-budget=4000", shot, page.as_uri()], check=True, capture_output=True)
    print(json.dumps({"tracks": args.tracks, "page_bytes": page.stat().st_size, **found}, indent=2))


if __name__ == "__main__":
    main()
