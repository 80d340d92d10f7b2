"""How a program ends, with one sentence and its status; text that is safe on a terminal; options; threads."""

import argparse
import errno
import json
import logging
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from descant.program import (
    ArgumentParser,
    BrokeOff,
    Ending,
    count,
    count_cores,
    describe_os_error,
    escape,
    escape_json,
    log_to_stderr,
    question,
    refusing,
    require_writable,
    run_program,
    seconds,
    use_all_cores,
)

CORES = len(os.sched_getaffinity(0))
# Says that it is ready, then is busy in the way of the case.
CASES = {
    "working": "ready(); time.sleep(600)",
    "swallowing": """
try:
    ready(); time.sleep(600)
except BaseException:
    pass
time.sleep(600)
""",
    "loading": """
with ending.loading():
    try:
        ready(); time.sleep(600)
    except BaseException:
        time.sleep(600)
""",
    "clearing": """
try:
    ready(); time.sleep(600)
finally:
    print("cleared", flush=True)
""",
    "failing": """
try:
    ready(); time.sleep(600)
except KeyboardInterrupt:
    raise RuntimeError("a worker was killed")
""",
}
SCRIPT = """
import sys, time
from descant import program
program.GRACE_S = SECONDS
def ready(): print("ready", flush=True)
with program.Ending("job", "go on") as ending:
"""


def start(case: str) -> subprocess.Popen:
    grace_s = 0.3 if case == "swallowing" else 600  # no other is to be ended by it, however slow the machine is
    code = SCRIPT.replace("SECONDS", str(grace_s)) + "\n".join(f"    {line}" for line in CASES[case].splitlines())
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
    shown, errors = process.communicate(timeout=300)
    assert process.returncode == status
    assert errors == f"job: {word}; go on\n"
    assert shown == ("cleared\n" if case == "clearing" else "")


def test_a_second_signal_does_not_wait_for_what_is_cleared_up() -> None:
    code = SCRIPT.replace("SECONDS", "600") + """
    try:
        ready(); time.sleep(600)
    finally:
        print("clearing", flush=True); time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "clearing\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (130, "job: interrupted; go on\n")


# Code from which no exception can leave: Python only reports what is raised there, and goes on.
DEAD_ENDS = {
    "finalizer": """
        class Odd:
            def __del__(self): send()
        Odd()
""",
    "callback": """
        import ctypes
        ctypes.CFUNCTYPE(None)(send)()
""",
    "callback after callback": """
        import ctypes
        back = ctypes.CFUNCTYPE(None)(lambda: time.sleep(0.02))
        send = ctypes.CFUNCTYPE(None)(send); send()
        for _ in range(5): back()
""",
}


@pytest.mark.parametrize(("number", "status", "word"), [
    (signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"),
])  # fmt: skip
@pytest.mark.parametrize("case", DEAD_ENDS)
def test_an_interruption_that_is_lost_comes_again(case: str, number: signal.Signals, status: int, word: str) -> None:
    code = SCRIPT.replace("SECONDS", "600") + f"""
    import signal
    def send(): signal.raise_signal({int(number)})
    try:
{DEAD_ENDS[case]}
        time.sleep(600)
    finally:
        print("cleared", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (status, "cleared\n", f"job: {word}; go on\n")


def test_what_else_nobody_can_catch_is_reported_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd:
        def __del__(self) -> None:
            raise KeyError("odd")

    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda ignored: reported.append(ignored.exc_type))
    before = sys.unraisablehook
    with Ending("job"):
        Odd()
    assert reported == [KeyError] and sys.unraisablehook is before


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


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_signal_at_the_very_beginning_ends_with_a_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    def set_and_send(number: int, handler: object) -> object:
        before = set_handler(number, handler)
        signal.raise_signal(number)
        return before

    child, set_handler = os.fork(), signal.signal
    if child == 0:
        signal.signal = set_and_send  # type: ignore[assignment]
        try:
            with Ending("job", ""):
                pass
        finally:
            os._exit(9)
    _, state = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(state) == 130 and capfd.readouterr().err == "job: interrupted\n"


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


def test_threads_sleep_while_they_wait_in_programs_that_load_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "")
    monkeypatch.delenv("OMP_WAIT_POLICY")  # and the test leaves none behind
    with Ending("job") as ending, ending.loading():
        assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


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
    with pytest.raises(argparse.ArgumentTypeError, match="100000 is more than 256"):
        count(1, 256)("100000")


PROGRAM = """
import sys
from descant.program import run_program
def run():
    {body}
sys.exit(run_program("tool", run, ""))
"""


def start_program(body: str, **settings: object) -> subprocess.Popen:
    command = [sys.executable, "-c", PROGRAM.format(body=body)]
    # A shell's background jobs ignore the keyboard's interrupt, and hand that on to what they start.
    ready = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **(ready | settings))


def wait_until_caught(process: subprocess.Popen, number: int) -> None:
    """Wait until the process handles a signal itself."""
    while process.poll() is None:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        if any(int(line.split()[1], 16) >> (number - 1) & 1 for line in lines if line.startswith("SigCgt")):
            return
        time.sleep(0.002)


@pytest.mark.parametrize("delay", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_during_imports_ends_with_a_sentence(delay: float, number: int, status: int, word: str) -> None:
    with start_program("import torch, transformers, time; time.sleep(600)") as process:
        wait_until_caught(process, signal.SIGTERM)
        time.sleep(delay)
        process.send_signal(number)
        error = process.stderr.read()
    assert (process.returncode, error) == (status, f"tool: {word}\n")


def test_what_was_switched_off_by_nohup_stays_so() -> None:
    body = "import os, signal; os.kill(os.getpid(), signal.SIGINT); return 0"
    with start_program(body, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) as process:
        assert process.wait(timeout=300) == 0


def test_a_full_disk_under_stdout_is_named() -> None:
    body = "from descant.program import show; show('result'); return 0"
    with open("/dev/full", "w") as full, start_program(body, stdout=full) as process:
        error = process.stderr.read()
    assert process.returncode == 1
    assert error == "tool: stdout: no space left on device: free some space and run the same command again\n"


def test_the_status_of_a_program_is_returned(capfd: pytest.CaptureFixture[str]) -> None:
    def refuse() -> int:
        raise ValueError("no such\nfolder \x1b[31m")

    assert run_program("tool", lambda: 1) == 1
    assert run_program("tool", refuse) == 2
    assert capfd.readouterr().err == "tool: no such folder \\x1b[31m\n"


HOSTILE = "caf\udce9 a\x1b]0;x\x07\x9b31m\u202eb\u2066\u200fc\nd\re\x7f\u2028é👪‍"


def test_no_control_character_reaches_a_terminal() -> None:
    assert escape(HOSTILE) == r"caf\udce9 a\x1b]0;x\x07\x9b31m\u202eb\u2066\u200fc\nd\re\x7f\u2028é👪‍"
    assert escape("a\nb\tc", keep="\n") == "a\nb\\tc"


def test_json_reads_as_it_was_without_control_characters() -> None:
    text = json.dumps({"audio": HOSTILE}, ensure_ascii=False, indent=1)
    shown = escape_json(text)
    assert json.loads(shown) == {"audio": HOSTILE} and escape(shown, keep="\n") == shown


def test_what_is_logged_keeps_to_its_line(capfd) -> None:
    log_to_stderr(logging.WARNING)
    logging.getLogger("descant.x").warning("%s: %d files,\nand %s", "a\nb\x1b", 3, Path("c\r"))
    assert capfd.readouterr().err == "a\\nb\\x1b: 3 files,\nand c\\r\n"


def test_usage_errors_send_no_control_characters(capsys) -> None:
    with pytest.raises(SystemExit):
        ArgumentParser(prog="tool").parse_args(["--\x1b[31m"])
    assert r"unrecognized arguments: --\x1b[31m" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parse", "good", "bad"),
    [
        (seconds, {"0": 0.0, "2.5": 2.5}, ["-1", "nan", "inf", "x"]),
        (question, {"Why?": "Why?"}, ["", " \n", "caf\udce9?"]),
        (count(1), {"32": 32}, ["9" * 400, ""]),
    ],
)
def test_options_are_checked_alike(parse, good, bad) -> None:
    assert {text: parse(text) for text in good} == good
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError):
            parse(text)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/1/x")):
        with pytest.raises(ValueError, match="nothing can be written here"):
            require_writable(folder)


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({}, CORES),
        ({"LOCAL_WORLD_SIZE": "2"}, max(1, CORES // 2)),
        ({"LOCAL_WORLD_SIZE": "1000"}, 1),
        ({"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no"}, CORES),
        ({"OMP_NUM_THREADS": "1"}, None),
        ({"OMP_NUM_THREADS": "3", "ACCELERATE_MIXED_PRECISION": "no"}, None),
    ],
)
def test_the_launchers_one_thread_is_not_the_users(
    environment: dict[str, str], threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    for name in ("OMP_NUM_THREADS", "LOCAL_WORLD_SIZE", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    use_all_cores()
    assert asked == ([] if threads is None else [threads])


def test_cores_are_counted_where_the_system_does_not_say_which_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert count_cores() == 3


FREES = """
import resource
from descant.program import keep_freed_memory

def count_faults():
    for _ in range(3):  # the last of three times 48 MiB counts
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [bytearray(2**24) for _ in range(3)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = count_faults()
keep_freed_memory()
print(given_back, count_faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such option")
def test_freed_memory_is_kept_for_what_comes_next_unless_the_user_has_set_it() -> None:
    def run(**environment: str) -> tuple[int, int]:
        bare = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
        command = [sys.executable, "-c", FREES]
        ended = subprocess.run(command, env=bare | environment, capture_output=True, text=True, check=True)
        given_back, kept = map(int, ended.stdout.split())
        return given_back, kept

    given_back, kept = run()
    assert kept < given_back / 10
    given_back, kept = run(MALLOC_TRIM_THRESHOLD_="131072")
    assert kept > given_back / 2
