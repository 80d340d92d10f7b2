"""What every program shares: how it ends, text that is safe on a terminal, checked options, its share of the cores.

Whatever ends a program, it ends with one sentence on stderr and an exit status: 0 all done, 1 it broke off or left
something out, 2 usage or refused before work, 130 interrupted, 143 terminated.
"""

import argparse
import codecs
import errno
import gc
import json
import logging
import math
import os
import re
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any, NoReturn, TextIO

log = logging.getLogger(__name__)

MOST_BEAMS = 256  # more need gigabytes, and answer no better
LARGEST_COUNT = 2**31 - 1
BROKE_OFF, REFUSED = 1, 2
SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
# What is cleared up after a signal may take so long; then the process ends as it is, which a kill may do at any time.
GRACE_S = 10.0
AGAIN_S = 0.001  # until a signal is sent again whose exception was lost
GOES_ON = "the same command goes on from here"
ENOUGH_MEMORY = 5e9  # bytes of address space for torch, of which the libraries of CUDA take most
# How torch, whose RuntimeErrors have no class of their own on a CPU, says that memory is short.
SHORT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


class BrokeOff(RuntimeError):
    """Work that cannot go on; the message is one sentence for the user."""


class Ending:
    """Ends the program with a sentence: `with Ending("mi_short"): …`.

    SIGINT and SIGTERM raise KeyboardInterrupt in the block, so that it can clear up; a second signal, or `GRACE_S`
    seconds, end the process at once. While modules load, the first one does: an `except:` in one of them might
    swallow the interruption. A signal that whoever started the program has switched off (`nohup`) stays so. An
    interruption from which nothing can be raised, in a finalizer or in what a library written in C calls back, is sent
    again until it arrives elsewhere.
    """

    def __init__(self, name: str, goes_on: str = GOES_ON, level: int = logging.INFO) -> None:
        """Name the program.

        Args:
            name: what its sentences begin with.
            goes_on: what a sentence about an interruption says of the next run.
            level: of the log messages that go to stderr.
        """
        self.name, self.goes_on, self.level = name, goes_on, level
        self._owner = os.getpid()
        self._signal: int | None = None
        self._loading, self._lost = True, False  # until the block begins, which catches a signal's exception
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Ending":
        closed = _open_closed_streams()
        log_to_stderr(self.level)
        if "stdout" in closed:
            log.warning("stdout is closed: no results are shown")
        self._report, sys.unraisablehook = sys.unraisablehook, self._send_again
        if threading.current_thread() is threading.main_thread():  # no other thread may
            heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._heed) for number in heeded}
        self._loading = False
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        status, self._lost, sys.unraisablehook = None, False, self._report
        if self._signal is not None and not isinstance(error, SystemExit):
            log.error("%s", self._last_words(self._signal))
            status = 128 + self._signal
        elif error is not None:
            status = self._explain(error)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned
        if status is not None:
            sys.exit(status)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Import modules in the block, torch among them; raises ImportError."""
        _warn_of_little_memory()
        wait_asleep()
        self._loading = True
        try:
            with loading_to_stay():
                yield
        except MemoryError as error:
            raise ImportError("there is not enough memory") from error
        finally:
            self._loading = False

    def _heed(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a forked child, which ends as if nothing had been set
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        above = set(_code_above(frame))
        if self._lost and self._send_again.__code__ in above:
            return self._later(AGAIN_S, self._kill, number)
        importing = any(code.co_filename.startswith("<frozen importlib") for code in above)
        if self._loading or importing or (self._signal is not None and not self._lost):
            self._end_now(number)
        if self._signal is None:
            self._later(GRACE_S, self._end_now, number)
        self._signal, self._lost = number, False
        raise KeyboardInterrupt

    def _send_again(self, ignored: "sys.UnraisableHookArgs") -> None:
        """Send a signal anew whose exception Python could only have reported; report others as before."""
        ours = self._signal is not None and os.getpid() == self._owner
        if not (ours and issubclass(ignored.exc_type, KeyboardInterrupt)):
            return self._report(ignored)
        self._lost = True
        self._later(AGAIN_S, self._kill, self._signal)

    def _kill(self, number: int) -> None:
        if self._lost:  # neither over nor heeded meanwhile
            os.kill(self._owner, number)

    @staticmethod
    def _later(seconds: float, act: Callable[[int], None], number: int | None) -> None:
        timer = threading.Timer(seconds, act, [number])
        timer.daemon = True
        timer.start()

    def _end_now(self, number: int) -> None:
        os.write(2, f"{self._last_words(number)}\n".encode("utf-8", "backslashreplace"))
        os._exit(128 + number)

    def _last_words(self, number: int) -> str:
        return "; ".join(filter(None, [f"{self.name}: {SIGNALS[signal.Signals(number)]}", self.goes_on]))

    def _explain(self, error: BaseException) -> int | None:
        """Say what ended the program; the exit status, or None where the error is nobody's to explain."""
        status, sentence = BROKE_OFF, one_line(error)
        if isinstance(error, BrokenPipeError):  # the reader of stdout, such as `head`, has gone
            _drop_stdout()
            return BROKE_OFF
        if isinstance(error, ValueError):
            status = REFUSED
        elif isinstance(error, ImportError):
            status, sentence = REFUSED, f"a library cannot be loaded: {sentence}"
        elif isinstance(error, KeyboardInterrupt):  # of a thread that cannot set handlers
            log.error("%s", self._last_words(signal.SIGINT))
            return 128 + signal.SIGINT
        elif isinstance(error, OSError):
            sentence = describe_os_error(error)
        elif isinstance(error, MemoryError) or any(words in str(error).lower() for words in SHORT_OF_MEMORY):
            sentence = f"there is not enough memory ({sentence}): smaller batches need less"
        elif not isinstance(error, BrokeOff):
            return None
        log.error("%s: %s", self.name, sentence)
        return status


def _open_closed_streams() -> list[str]:
    """Open to nowhere what whoever started the program has closed; return the names.

    Python has None in place of such a stream, and the next file that is opened would get its number and its output.
    """
    closed = []
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
            closed.append(name)
    return closed


def _warn_of_little_memory() -> None:
    """Say beforehand what libraries written in C do not say: they crash, or try again for ever."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < ENOUGH_MEMORY:
        log.warning(
            "this process may have %.1f GB of address space (ulimit -v): with less than about %d, libraries may fail, "
            "crash or never return", limit / 1e9, ENOUGH_MEMORY / 1e9,
        )  # fmt: skip


def _code_above(frame: FrameType | None) -> Iterator[CodeType]:
    while frame is not None:
        yield frame.f_code
        frame = frame.f_back


def describe_os_error(error: OSError) -> str:
    """Return what the system says of a file in one sentence, which names it: "out/x: no space left on device"."""
    named = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    if error.strerror is None:
        return one_line(error)
    reason = error.strerror[:1].lower() + error.strerror[1:]
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    way_out = ": free some space and run the same command again" if is_full else ""
    way_out = ": close other programs, or let this one have more memory" if error.errno == errno.ENOMEM else way_out
    return f"{' → '.join(named) or 'a file'}: {reason}{way_out}"


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def name_error(error: BaseException) -> str:
    """Return an error's message on one line, with its kind where the message was not written for users."""
    return one_line(error) if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {one_line(error)}"


def shorten(text: str, longest: int) -> str:
    """Return text of at most so many characters, and `…` where some are left out."""
    return text if len(text) <= longest else f"{text[:longest]}…"


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn an OSError of the block, which comes before any work, into a ValueError that begins with the setting."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{what}: {describe_os_error(error)}") from error


def require_writable(folder: Path) -> None:
    """Make a folder for results, where it is missing; raise ValueError where nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{folder}: nothing can be written here ({error.strerror}); give another folder") from error


def run_program(name: str, run: Callable[[], int], goes_on: str = GOES_ON, level: int = logging.INFO) -> int:
    """Run a program that has not imported torch yet to its end, see `Ending`, and return its exit status."""
    wait_asleep()
    try:
        with Ending(name, goes_on, level):
            _warn_of_little_memory()
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names need not be text
            status = run()
            with _naming_stdout():
                sys.stdout.flush()
    except SystemExit as ended:
        status = int(ended.code or 0)
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:  # while Python clears up, a signal ends it without a traceback
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
    return status


# Text on a terminal

# Controls (C0, DEL, C1), line separators, marks that turn the order of text around, bytes that are no UTF-8.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escape(text: str, keep: str = "") -> str:
    r"""Return text as a terminal may show it: control characters, ends of lines too, as `\x1b`, `\n` or `\u202e`.

    keep: characters that stay, such as the newlines of a text of several lines.
    """
    return _CONTROLS.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)


def escape_json(text: str) -> str:
    """Return JSON with control characters in JSON's own escapes; its newlines stand between values, and stay."""
    return _CONTROLS.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def say(text: str) -> None:
    """Write one line to stderr, above the bars that are shown there."""
    _write(escape(text), sys.stderr)


def show(text: str) -> None:
    """Write a result of one or more lines to stdout, above the bars on stderr; raises OSError."""
    _write_out(escape(text, keep="\n"))


def show_json(text: str) -> None:
    """Write JSON to stdout, above the bars on stderr, in ASCII where stdout takes no UTF-8; raises OSError."""
    text = escape_json(text)
    if codecs.lookup(sys.stdout.encoding or "utf-8").name != "utf-8":
        text = re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)
    _write_out(text)


def _write_out(text: str) -> None:
    with _naming_stdout():
        _write(text, sys.stdout)
        sys.stdout.flush()


def _write(text: str, stream: TextIO) -> None:
    bars = sys.modules.get("tqdm.std")  # without it, no bar is shown
    try:
        write = bars.tqdm.write if bars else print
    except AttributeError:  # a signal came while it was imported
        write = print
    write(text, file=stream)


class _EscapingHandler(logging.Handler):
    """Writes log records to stderr, above bars; what is put into a message keeps to its line."""

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, tuple):
            record.args = tuple(one if isinstance(one, int | float) else escape(str(one)) for one in record.args)
        _write(escape(self.format(record), keep="\n"), sys.stderr)


def log_to_stderr(level: int) -> None:
    """Let log messages from this level on go to stderr, above bars and without control characters."""
    root = logging.getLogger()
    if not any(isinstance(handler, _EscapingHandler) for handler in root.handlers):
        root.addHandler(_EscapingHandler())
    root.setLevel(level)


@contextmanager
def _naming_stdout() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop_stdout()
        error.filename = "stdout"
        raise


def _drop_stdout() -> None:
    """Let what is left for stdout go nowhere, or Python complains when it flushes at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# Options


class ArgumentParser(argparse.ArgumentParser):
    """A parser whose messages do not send control characters to the terminal."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, and exit with status 2."""
        super().error(escape(message))

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write help to stdout, which argparse does without a word where it cannot; raises OSError."""
        if message and file is sys.stdout:
            with _naming_stdout():
                file.write(message)
                file.flush()
        else:
            super()._print_message(message, file)


def hear(text: str) -> int | None:
    """Read the option `--hear`: how many windows of a track are heard at most, 1 or more, or `all` as None."""
    return None if text == "all" else count(1)(text)


def count(least: int, most: int = LARGEST_COUNT) -> Callable[[str], int]:
    """Return what reads an option that is a whole number in these bounds, for `add_argument(type=…)`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        if value > most:
            raise argparse.ArgumentTypeError(f"{text} is more than {most}")
        return value

    return read


def seconds(text: str) -> float:
    """Return the number of seconds, 0 or more, that an option was given."""
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def share(text: str) -> float:
    """Return the number above 0, and 1 at most, that an option was given."""
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0 and up to 1")
    return value


def source(text: str) -> str:
    """Return the path or address that an option was given; an empty one, which would mean this folder, is refused."""
    if not text:
        raise argparse.ArgumentTypeError('the path is empty; this folder is "."')
    return text


def question(text: str) -> str:
    """Return the question that an option was given."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the question is empty")
    try:
        return text.encode("utf-8", "surrogateescape").decode()  # its bytes, in whatever locale Python took them
    except UnicodeError:
        raise argparse.ArgumentTypeError(f"the question {text!r} is no UTF-8 text") from None


# What a program loads, and its cores


@contextmanager
def loading_to_stay() -> Iterator[None]:
    """Load modules and models in the block that are used until the process ends: no garbage is looked for in them.

    Python would search all of them again and again while they come: of the seconds of importing torch and
    transformers' models, every fifth. After the first such block of a process they are left out of every search.
    """
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
        if searching:
            gc.enable()


def wait_asleep() -> None:
    """Let threads of torch sleep while they wait for each other, before it is imported; OMP_WAIT_POLICY comes first.

    By default they spin: beside busy processes two threads then took more than 20 times the CPU seconds of one.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def silence_transformers() -> None:
    """Let transformers log errors alone, and show no bars: this program's own say what is done."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def use_all_cores() -> None:
    """Give torch this process's share of the machine's cores, unless the user set OMP_NUM_THREADS; and the memory."""
    import torch

    keep_freed_memory()
    # The launcher writes OMP_NUM_THREADS=1 where nobody has set it; a user's own 1 cannot be told from that.
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ
    if os.environ.get("OMP_NUM_THREADS", "") in (["", "1"] if launched else [""]):
        torch.set_num_threads(count_cores())


def count_cores() -> int:
    """Return this process's share of the machine's cores: of those that it may use, where the system tells."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def keep_freed_memory() -> None:
    """Let glibc keep 128 MiB of freed memory, unless the user set it: taking it anew was a fifth of small training."""
    import ctypes

    own = os.environ.keys() & {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"}
    if not own and (set_option := getattr(ctypes.CDLL(None), "mallopt", None)):
        set_option(-1, 2**27)  # M_TRIM_THRESHOLD
        set_option(-3, 2**25)  # M_MMAP_THRESHOLD, the highest that it takes: a larger block goes back whole
