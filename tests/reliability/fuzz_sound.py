"""Broken sound files by the thousand: bits flipped, ends cut off, blocks put in, taken out or doubled, by a seed.

    python tests/reliability/fuzz_sound.py FIRST COUNT      one line for each input, as soon as it has been read

Each line tells the input's number and what came of it: `heard` with seconds and the most that may be heard, `refused`,
or `fault` with the exception that is no AudioError.
"""

import io
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from queue import Empty, Queue

import av
import numpy as np
from test_odd_files import KINDS, make

from descant.data.sound_file import AudioError, read_blocks

SEED = 20_261_127
SLACK_S = 0.3  # encoders' padding
DEADLINE_S = 60  # for one input, on a busy machine


def break_file(number: int) -> tuple[str, bytes, float]:
    """Return the kind, the bytes and the seconds (at most, by what was put in) of one broken file."""
    random = np.random.default_rng((SEED, number))
    kind = list(KINDS)[number % len(KINDS)]
    whole = make(kind)
    data = bytearray(whole)
    for _ in range(random.integers(1, 4)):
        data = BREAKS[random.integers(len(BREAKS))](data, random)
    return kind, bytes(data), measure(kind) * max(1.0, len(data) / len(whole)) + SLACK_S


@cache
def measure(kind: str) -> float:
    """Return the seconds of a whole file."""
    return sum(len(samples) / rate for samples, rate in read_blocks(io.BytesIO(make(kind)), kind))


def flip_bits(data: bytearray, random: np.random.Generator) -> bytearray:
    for place in random.integers(0, len(data), random.integers(1, 30)):
        data[place] ^= 1 << random.integers(8)
    return data


def flip_header(data: bytearray, random: np.random.Generator) -> bytearray:
    for place in random.integers(0, min(len(data), 200), random.integers(1, 6)):
        data[place] = random.integers(256)
    return data


def cut_end(data: bytearray, random: np.random.Generator) -> bytearray:
    return data[: random.integers(1, len(data))] or data


def cut_start(data: bytearray, random: np.random.Generator) -> bytearray:
    return data[random.integers(0, min(len(data), 3_000)) :]


def put_in(data: bytearray, random: np.random.Generator) -> bytearray:
    place, block = random.integers(0, len(data)), random.bytes(random.integers(1, 5_000))
    return data[:place] + (bytes(len(block)) if random.integers(2) else block) + data[place:]


def double(data: bytearray, random: np.random.Generator) -> bytearray:
    first, last = sorted(random.integers(0, len(data), 2))
    return data[:last] + data[first:]


def take_out(data: bytearray, random: np.random.Generator) -> bytearray:
    first = random.integers(0, len(data))
    return data[:first] + data[first + random.integers(1, 5_000) :] or data


TAGS = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}  # or refused
BREAKS = (flip_bits, flip_header, cut_end, cut_start, put_in, double, take_out)


def count_plainly(data: bytes) -> float:
    """Return the seconds that FFmpeg decodes by itself, whatever is wrong with the file."""
    seconds = 0.0
    try:
        with av.open(io.BytesIO(data), options={"protocol_whitelist": "none"}, **TAGS) as container:
            for packet in container.demux(audio=0):
                try:
                    seconds += sum(frame.samples / frame.sample_rate for frame in packet.decode())
                except av.FFmpegError:
                    continue
    except (av.FFmpegError, IndexError, ValueError):
        pass
    return seconds


def read_one(number: int) -> str:
    """Return the line about one input."""
    kind, data, most_s = break_file(number)
    try:
        seconds = 0.0
        for samples, rate in read_blocks(io.BytesIO(data), kind):
            assert np.isfinite(samples).all()
            seconds += len(samples) / rate
    except AudioError as error:
        return f"refused {error.reason}"
    except Exception as error:  # the test names it
        return f"fault {type(error).__name__}: {error}"
    if seconds > most_s:  # a changed header may make more of the same bytes
        most_s = max(most_s, count_plainly(data) + SLACK_S)
    return f"heard {seconds:.3f} {most_s:.3f}"


@dataclass
class Counts:
    """What came of the inputs: how many ended how, and the numbers of those that ended wrongly."""

    outcomes: Counter[str] = field(default_factory=Counter)
    hangs: list[int] = field(default_factory=list)
    crashes: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    too_long: list[str] = field(default_factory=list)

    def add(self, number: int, line: str) -> None:
        outcome, *rest = line.split()
        self.outcomes[outcome] += 1
        if outcome == "fault":
            self.faults.append(f"{number}: {line}")
        if outcome == "heard" and float(rest[0]) > float(rest[1]):
            self.too_long.append(f"{number}: {line}")

    def __str__(self) -> str:
        bad = f"{len(self.hangs)} hangs, {len(self.crashes)} crashes, {len(self.faults)} faults"
        return f"{sum(self.outcomes.values())} inputs: {dict(self.outcomes)}; {bad}, {len(self.too_long)} too long"


def run(first: int, count: int) -> Counts:
    """Read broken files in processes of their own; one that hangs or dies is counted, and the next ones follow."""
    counts, end = Counts(), first + count
    while first < end:
        with _start(first, end - first) as child:
            for line in _lines(child):
                if line is None:
                    counts.hangs.append(first)
                    child.kill()
                    break
                counts.add(first, line.partition(" ")[2])
                first += 1
            else:
                if first < end:
                    counts.crashes.append(first)
        first += first < end
    return counts


def _start(first: int, count: int) -> subprocess.Popen:
    command = [sys.executable, __file__, str(first), str(count)]
    tests = Path(__file__).parents[1]
    paths = [str(tests), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)


def _lines(child: subprocess.Popen) -> Iterator[str | None]:
    """Yield a child's lines, and None where no line comes for too long."""
    lines: Queue[str | None] = Queue()

    def read() -> None:
        for line in child.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=DEADLINE_S)
        except Empty:
            yield None
            return
        if line is None:
            return
        yield line


def main() -> None:
    first, count = map(int, sys.argv[1:])
    for number in range(first, first + count):
        print(number, read_one(number).replace("\n", " "), flush=True)


if __name__ == "__main__":
    main()
