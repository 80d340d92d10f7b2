"""Broken sound files end neither the process nor in a hang, and none is heard for longer than it is."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue

import fuzz_sound
import pytest
from test_odd_files import KINDS


def require_none_wrong(counts: fuzz_sound.Counts, inputs: int) -> None:
    print(counts)
    assert sum(counts.outcomes.values()) == inputs, counts
    assert not (counts.hangs or counts.crashes or counts.faults or counts.too_long), counts.__dict__
    assert counts.outcomes["heard"] > inputs / 20 and counts.outcomes["refused"] > inputs / 4, counts


def test_some_broken_files() -> None:
    counts = fuzz_sound.Counts()
    for number in range(2 * len(KINDS)):
        counts.add(number, fuzz_sound.read_one(number))
    require_none_wrong(counts, 2 * len(KINDS))


@pytest.mark.reliability
def test_ten_thousand_broken_files() -> None:
    require_none_wrong(fuzz_sound.run(1_000, 10_000), 10_000)


def test_a_child_that_dies_or_hangs_is_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hangs = tmp_path / "hangs"

    class Lines(Queue):
        """Lines that are waited for until the child says that it hangs, however slow the machine is."""

        def get(self, block: bool = True, timeout: float | None = None) -> str | None:
            assert timeout == fuzz_sound.DEADLINE_S
            while True:
                with suppress(Empty):
                    return super().get(timeout=0.02)
                if hangs.exists():
                    hangs.unlink()
                    raise Empty

    script = (
        "import os, pathlib, sys, time\nfirst, count = map(int, sys.argv[1:])\n"
        "def hang():\n"
        f"    pathlib.Path({str(hangs)!r}).touch(); time.sleep(600)\n"
        "for number in range(first, first + count):\n"
        "    os._exit(9) if number == 2 else hang() if number == 4 else None\n"
        "    print(number, 'heard 1.0', 2.0 if number != 5 else 0.5, flush=True)\n"
    )
    monkeypatch.setattr(fuzz_sound, "Queue", Lines)
    monkeypatch.setattr(fuzz_sound, "_start", lambda first, count: subprocess.Popen(
        [sys.executable, "-c", script, str(first), str(count)], stdout=subprocess.PIPE, text=True))  # fmt: skip
    counts = fuzz_sound.run(0, 7)
    assert counts.crashes == [2] and counts.hangs == [4] and counts.outcomes["heard"] == 5
    assert [line.split(":")[0] for line in counts.too_long] == ["5"]
