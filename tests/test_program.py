"""How a program ends: signals at any moment, disks, memory and refusals, each with one sentence and its status."""

import argparse
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from descant.program import BrokeOff, Ending, count, describe_os_error, refusing

# Says that it is ready, then is busy in the way of the case.
CASES = {
    "working": "ready(); time.sleep(60)",
    "swallowing": """
try:
    ready(); time.sleep(60)
except BaseException:
    pass
time.sleep(60)
""",
    "loading": """
with ending.loading():
    try:
        ready(); time.sleep(60)
    except BaseException:
        time.sleep(60)
""",
    "clearing": """
try:
    ready(); time.sleep(60)
finally:
    print("cleared", flush=True)
""",
    "failing": """
try:
    ready(); time.sleep(60)
except KeyboardInterrupt:
    raise RuntimeError("a worker was killed")
""",
}
SCRIPT = """
import sys, time
from descant import program
program.GRACE_S = 0.3
def ready(): print("ready", flush=True)
with program.Ending("job", "go on") as ending:
"""


def start(case: str) -> subprocess.Popen:
    code = SCRIPT + "\n".join(f"    {line}" for line in CASES[case].splitlines())
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "status", "word"), [
    (signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"),
])  # fmt: skip
@pytest.mark.parametrize("case", CASES)
def test_a_signal_ends_it_with_one_sentence_and_its_status(
    case: str, number: signal.Signals, status: int, word: str
) -> None:
    process = start(case)
    process.send_signal(number)
    shown, errors = process.communicate(timeout=30)
    assert process.returncode == status
    assert errors == f"job: {word}; go on\n"
    assert shown == ("cleared\n" if case == "clearing" else "")


def test_a_second_signal_does_not_wait_for_what_is_cleared_up() -> None:
    code = SCRIPT.replace("0.3", "60") + """
    try:
        ready(); time.sleep(60)
    finally:
        print("clearing", flush=True); time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "clearing\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "job: interrupted; go on\n")


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_forked_child_ends_as_if_nothing_had_been_set(number: signal.Signals) -> None:
    with pytest.raises(SystemExit) as ended, Ending("job"):
        child = os.fork()
        if child == 0:
            try:
                signal.raise_signal(number)
            except KeyboardInterrupt:
                os._exit(7)
            os._exit(8)
        _, state = os.waitpid(child, 0)
        raise BrokeOff("over")
    assert ended.value.code == 1
    assert os.waitstatus_to_exitcode(state) == (7 if number == signal.SIGINT else -signal.SIGTERM)


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/loss.png")


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (ValueError("--seed: give\n a number"), 2, "job: --seed: give a number"),
        (BrokeOff("the loss is nan"), 1, "job: the loss is nan"),
        (FULL, 1, "job: out/loss.png: no space left on device: free some space and run the same command again"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 1, "job: x: permission denied"),
        (OSError("the disk took only a part"), 1, "job: the disk took only a part"),
        (MemoryError(), 1, "job: there is not enough memory (MemoryError): smaller batches need less"),
        (RuntimeError("CUDA out of memory. Tried 2 GiB"), 1, "job: there is not enough memory"),
        (KeyboardInterrupt(), 130, "job: interrupted; the same command goes on from here"),
    ],
)
def test_what_goes_wrong_becomes_one_sentence(
    error: BaseException, status: int, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit) as ended, Ending("job"):
        raise error
    assert ended.value.code == status
    (record,) = caplog.records
    assert record.getMessage().startswith(sentence) and "\n" not in record.getMessage()


def test_a_library_that_cannot_be_loaded_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended, Ending("job") as ending, ending.loading():
        raise ImportError("libtorch.so: failed to map segment")
    assert ended.value.code == 2
    assert "job: a library cannot be loaded: libtorch.so" in caplog.text


@pytest.mark.parametrize("error", [TypeError("a mistake of ours"), SystemExit(5)])
def test_what_is_nobodys_to_explain_passes(error: BaseException) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(type(error)) as raised, Ending("job"):
        raise error
    assert raised.value is error and signal.getsignal(signal.SIGTERM) == before


def test_both_names_of_a_rename_are_given() -> None:
    assert describe_os_error(OSError(errno.EXDEV, "Cross link", "a", None, "b")) == "a → b: cross link"


def test_a_fault_before_work_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"--output_dir x: {tmp_path}/file/y: not a directory"), refusing(
        "--output_dir x"
    ):
        (tmp_path / "file" / "y").mkdir()


def test_counts_are_whole_numbers_from_the_least_on() -> None:
    assert count(0)("0") == 0 and count(1)("12") == 12
    for text, message in (("0", "0 is less than 1"), ("1.5", "'1.5' is no whole number"), ("-3", "-3 is less than 1")):
        with pytest.raises(argparse.ArgumentTypeError, match=message):
            count(1)(text)
