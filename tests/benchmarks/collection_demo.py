"""A whole collection once through: good and bad files, described through two kills, tagged, taken back, found.

    python tests/benchmarks/collection_demo.py make FOLDER [--files 500]
    python tests/benchmarks/collection_demo.py run FOLDER --model MODEL --output FOLDER

make: clips of the embedded corpus in six formats and nested folders, one file in ten bad in one of six ways.
run: fails where a song is described twice or not at all, or where a song's sound is not what it was.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

from descant.data.demo.corpus import DATA_DIR, facts
from descant.data.sources import list_sound_files

RATE = 48_000
GOOD = ("ogg", "flac", "wav", "mp3", "opus", "m4a")


def write_good(clip: Path, target: Path) -> None:
    """Write a clip in the format of the target's name."""
    if target.suffix == ".ogg":
        target.write_bytes(clip.read_bytes())
        return
    samples, rate = soundfile.read(clip, dtype="float32", always_2d=True)
    if target.suffix == ".opus":
        times = np.arange(0, len(samples) / rate, 1 / RATE)
        resampled = np.interp(times, np.arange(len(samples)) / rate, samples[:, 0])
        soundfile.write(target, resampled, RATE, format="OGG", subtype="OPUS")
    elif target.suffix == ".m4a":
        write_m4a(samples[:, :1].T, rate, target)
    else:
        soundfile.write(target, samples, rate, format=target.suffix[1:].upper())


def write_m4a(samples: np.ndarray, rate: int, target: Path) -> None:
    with av.open(str(target), "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=rate, layout="mono")
        stream.codec_context.open()
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler("fltp", "mono", rate, frame_size=stream.codec_context.frame_size)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))


def write_cut(target: Path) -> None:
    write_noise(target, 5.0)
    target.write_bytes(target.read_bytes()[: target.stat().st_size // 2])


def write_noise(target: Path, seconds: float) -> None:
    noise = 0.1 * np.random.default_rng(0).normal(size=int(RATE * seconds)).astype(np.float32)
    soundfile.write(target, noise, RATE, format="FLAC")


def write_nan(target: Path) -> None:
    soundfile.write(target, np.full(RATE, np.nan, np.float32), RATE, format="WAV", subtype="FLOAT")


BAD: dict[str, Callable[[Path], Any]] = {
    "empty.mp3": lambda target: target.write_bytes(b""),
    "text.mp3": lambda target: target.write_text("this is no sound"),
    "cut.flac": write_cut,
    "short.flac": lambda target: write_noise(target, 0.2),
    "nan.wav": write_nan,
    "bytes.ogg": lambda target: target.write_bytes(np.random.default_rng(0).bytes(20_000)),
}


def make_folder(folder: Path, files: int) -> dict[str, int]:
    """Write the folder; return how many files are good and bad."""
    clips = [row["clip_id"] for row in facts()]
    counts = {"good": 0, "bad": 0}
    for number in range(files):
        below = folder / f"disc {number % 7}" / ("é" if number % 3 else ".") / f"{number % 5}"
        below.mkdir(parents=True, exist_ok=True)
        if number % 10 == 9:
            name = list(BAD)[counts["bad"] % len(BAD)]
            BAD[name](below / f"{number} {name}")
            counts["bad"] += 1
        else:
            clip = clips[counts["good"] % len(clips)]
            target = below / f"{clip}.{GOOD[number % len(GOOD)]}"
            write_good(DATA_DIR / "audio" / f"{clip}.ogg", target)
            counts["good"] += 1
    (folder / "cover.jpg").write_bytes(b"no sound by its name")
    return counts


# The demonstration


def descant(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "descant.cli", *map(str, arguments)]


def call(*arguments: str | Path, statuses: Sequence[int] = (0,)) -> str:
    shown = subprocess.run(descant(*arguments), capture_output=True, text=True)
    if shown.returncode not in statuses:
        raise SystemExit(f"descant {arguments[0]} ended with {shown.returncode}: {shown.stderr}")
    return shown.stdout


def count_whole(part: Path) -> int:
    return part.read_bytes().count(b"\n") if part.exists() else 0


def kill_after(command: list[str], files: Sequence[Path], records: int) -> int:
    """Run a command, kill it once its log and part hold so many records, and return how many they then hold."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while sum(map(count_whole, files)) < records and process.poll() is None:
        time.sleep(0.01)
    if process.poll() is not None:
        raise SystemExit(f"the run ended with {process.returncode} before it was to be killed")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return sum(map(count_whole, files))


def hash_sounds(songs: Sequence[Path]) -> dict[str, str]:
    """Return a hash of the decoded samples of each song that can be decoded at all."""
    hashes = {}
    for song in songs:
        digest = hashlib.sha256()
        try:
            with av.open(str(song)) as container:
                for frame in container.decode(audio=0):
                    digest.update(frame.to_ndarray().tobytes())
        except (av.FFmpegError, IndexError):
            continue
        hashes[str(song)] = digest.hexdigest()
    return hashes


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def describe_through_kills(folder: Path, model: str, output: Path, good: int) -> dict[str, Any]:
    """Describe with two kills; every song is described once, and those before a kill stay as they were."""
    log, part = output / "descriptions.jsonl", output / "descriptions.jsonl.part-0"
    command = descant("describe", folder, "--model", model, "--output", log, "--json")
    before = [kill_after(command, (log, part), good // 3)]
    early = {one["audio"]: one["decisions"] for one in read_lines(part)[:-1] if "error" not in one}
    before.append(kill_after(command, (log, part), 2 * good // 3))
    known = len([one for path in (log, part) for one in read_lines(path)[: -1 if path == part else None]
                 if "error" not in one])  # fmt: skip
    outcome = json.loads(call("describe", folder, "--model", model, "--output", log, "--json",
                              "--sidecars", "caption,json", statuses=(0, 1)))  # fmt: skip
    described = read_lines(log)
    names = [one["audio"] for one in described]
    failed = read_lines(output / "descriptions.failed.jsonl")
    again = outcome["known"] - known
    whole = len(set(names)) == len(names) == outcome["known"] + outcome["described"] and again in (0, 1)
    kept = all(one["decisions"] == early[one["audio"]] for one in described if one["audio"] in early)
    if not (whole and kept and len(names) + len(failed) == outcome["songs"]):
        raise SystemExit(f"songs were lost or described twice: {outcome}, {len(names)} described, {known} known")
    return outcome | {"records_at_kills": before, "failed_named": len(failed)}


def run_all(folder: Path, model: str, output: Path) -> dict[str, Any]:
    output.mkdir(parents=True, exist_ok=True)
    songs = list_sound_files(folder).files
    sounds = hash_sounds(songs)
    result: dict[str, Any] = {"files": len(songs), "decodable": len(sounds)}
    result["described"] = describe_through_kills(folder, model, output, len(sounds))
    log, database = output / "descriptions.jsonl", output / "music.db"
    fields = ("--fields", "genre,mood,bpm,key,comment", "--min_confidence", "0.3", "--json")
    result["tagged"] = len(call("tag", folder, "--from", log, *fields, statuses=(0, 1)).splitlines())
    result["sound_after_tags"] = hash_sounds(songs) == sounds
    result["restored"] = len(call("tag", folder, "--undo", "--json", statuses=(0, 1)).splitlines())
    result["sound_after_undo"] = hash_sounds(songs) == sounds
    result["index"] = call("index", log, "--database", database, "--plain").strip()
    found = call("search", "calm piano without drums, slow", "--database", database, "--json", "--limit", "3")
    result["found"] = [(one["audio"], one["score"], one["facts"]) for one in map(json.loads, found.splitlines())]
    result["report"] = call("report", log, "--output", output / "report", statuses=(0, 1)).strip()
    if not (result["sound_after_tags"] and result["sound_after_undo"]):
        raise SystemExit(f"the sound of a song changed: {result}")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "run"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--model")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    if args.what == "make":
        print(json.dumps(make_folder(args.folder, args.files)))
    elif args.model and args.output:
        print(json.dumps(run_all(args.folder, args.model, args.output), indent=2, ensure_ascii=False))
    else:
        parser.error("run needs --model and --output")


if __name__ == "__main__":
    main()
