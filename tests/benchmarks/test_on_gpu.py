"""The script for a GPU is a valid one, names programs that are there, and keeps within nine minutes."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "benchmarks" / "on_gpu.sh"
TEXT = SCRIPT.read_text(encoding="utf-8")


def test_the_script_is_valid_bash() -> None:
    checked = subprocess.run(["bash", "-n", str(SCRIPT)], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_limits_of_all_parts_on_a_gpu_are_nine_minutes_at_most() -> None:
    on_gpu = TEXT.split("if [ $device = cuda ]; then")[1].split("\nelse\n")[0]
    limits = [int(limit) for limit in re.findall(r"^ +part \w+ (\d+)", on_gpu, flags=re.MULTILINE)]
    last = re.findall(r"^    part zero2 (\d+)", TEXT, flags=re.MULTILINE)
    assert len(limits) == 5 and sum(limits) + int(last[0]) <= 540


def test_the_programs_that_it_runs_are_there() -> None:
    named = re.findall(r"\b((?:tests|recipes|accelerate_configs)/[\w/]+\.(?:py|yaml))", TEXT)
    assert len(set(named)) >= 6 and all((ROOT / name).is_file() for name in named)
