"""The server under load: many clients for a minute, every answer compared with that of `descant ask`.

    python tests/benchmarks/bench_serve.py [MODEL] [--clients 32] [--seconds 60]

A process of `descant serve` answers clients that each wait for their answer before they ask again: questions of
trained types, questions in free words and captions, about clips of the embedded corpus. What they should get is asked
of `descant ask` in a process of its own before. Printed: requests a second, times, memory, what differs.
"""

import argparse
import base64
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from descant.data.demo.corpus import DATA_DIR

QUESTIONS = ("What is the genre?", "Are there drums?", "Which instruments can you make out here?", None)
SETTLED = 0.25  # of the time, behind which memory is compared with that at the end


@dataclass
class Load:
    """What clients saw: seconds of each answer, statuses, answers that differ, memory of the server in MB by time."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    differing: list[tuple[str, str]] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    processor_s: float = 0.0  # of the server, for all answers


def ask_cold(model: str | None, songs: list[Path]) -> dict[tuple[str, str | None], str]:
    """Return what `descant ask` answers to each song and question, captions by a run without questions."""
    expected = {}
    for questions in (QUESTIONS[:-1], ()):
        options = [word for question in questions for word in ("-q", question)]
        command = [sys.executable, "-m", "descant.cli", "ask", *filter(None, [model]), *map(str, songs), *options]
        printed = subprocess.run([*command, "--json"], capture_output=True, check=True, text=True).stdout
        for line in printed.splitlines():
            answer = json.loads(line)
            expected[answer["audio"], answer["question"]] = answer["prediction"]
    return expected


def write_request(name: str, song: Path, question: str | None) -> bytes:
    data = base64.b64encode(song.read_bytes()).decode()
    content: list[dict[str, Any]] = [{"type": "input_audio", "input_audio": {"data": data, "format": "ogg"}}]
    content += [] if question is None else [{"type": "text", "text": question}]
    return json.dumps({"model": name, "messages": [{"role": "user", "content": content}]}).encode()


def read_memory(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def read_processor_s(pid: int) -> float:
    """Return the processor time that a process has taken, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Clients:
    """Threads that ask one after another until the time is over."""

    def __init__(self, port: int, requests: list[tuple[bytes, str]], until: float) -> None:
        self.port, self.requests, self.until = port, requests, until
        self.load, self.lock = Load(), threading.Lock()

    def run(self, number: int) -> None:
        """Ask as one client, which begins elsewhere in the list than others."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        while time.monotonic() < self.until:
            body, expected = self.requests[number % len(self.requests)]
            number += 7
            begun = time.monotonic()
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = json.loads(response.read())
            said = content["choices"][0]["message"]["content"] if response.status == 200 else None
            with self.lock:
                self.load.seconds.append(time.monotonic() - begun)
                self.load.statuses[response.status] += 1
                if said is not None and said != expected:
                    self.load.differing.append((expected, said))
        connection.close()


def measure(model: str | None, clients: int, seconds: float, songs: int) -> Load:
    """Start a server, let clients ask it, end it, and return what they saw."""
    paths = sorted((DATA_DIR / "audio").glob("*.ogg"))[:: max(1, 600 // songs)][:songs]
    expected = ask_cold(model, paths)
    command = [sys.executable, "-m", "descant.cli", "serve", *filter(None, [model]), "--port", "0", "--queue", "256"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr
            lines = iter(server.stderr.readline, "")
            found = next(filter(None, (re.search(r": (\S+) answers at .*:(\d+)/v1", line) for line in lines)))
            requests = [
                (write_request(found[1], path, question), expected[str(path), question])
                for path in paths
                for question in QUESTIONS
            ]
            begun, taken_s = time.monotonic(), read_processor_s(server.pid)
            asking = Clients(int(found[2]), requests, begun + seconds)
            threads = [threading.Thread(target=asking.run, args=[number]) for number in range(clients)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                asking.load.memory.append((time.monotonic() - begun, read_memory(server.pid)))
                time.sleep(0.5)
            asking.load.processor_s = read_processor_s(server.pid) - taken_s
            server.send_signal(signal.SIGTERM)
            assert server.wait(30) == 0
        finally:
            server.kill()
    return asking.load


def format_load(load: Load, seconds: float) -> str:
    """Return what was seen in a few lines."""
    times = statistics.quantiles(load.seconds, n=100)
    settled = [memory for at_s, memory in load.memory if at_s > SETTLED * seconds]
    lines = [
        f"{len(load.seconds)} requests in {seconds:g} s, {len(load.seconds) / load.memory[-1][0]:.1f} a second, "
        f"statuses {dict(load.statuses)}",
        f"seconds to an answer: p50 {times[49]:.2f}, p95 {times[94]:.2f}, longest {max(load.seconds):.2f}",
        f"processor time of the server: {load.processor_s / len(load.seconds):.3f} s a request",
        f"memory of the server: {settled[0]:.0f} MB after a quarter of the time, {settled[-1]:.0f} MB at the end, "
        f"{max(memory for _, memory in load.memory):.0f} MB at most",
        f"answers that differ from those of descant ask: {len(load.differing)}",
        *(f"  {expected!r} → {said!r}" for expected, said in load.differing[:5]),
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a model (default: the model in the box)")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--songs", type=int, default=12)
    args = parser.parse_args()
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}, cores {len(os.sched_getaffinity(0))}")
    print(format_load(measure(args.model, args.clients, args.seconds, args.songs), args.seconds))


if __name__ == "__main__":
    main()
