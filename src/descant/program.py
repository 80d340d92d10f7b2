"""The edge of a program: whatever ends it, it ends with one sentence on stderr and the exit status that says how.

0 all done, 1 it broke off or left something out, 2 usage or refused before work, 130 interrupted, 143 terminated.
"""

import argparse
import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

log = logging.getLogger(__name__)

BROKE_OFF, REFUSED = 1, 2
SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
# What is cleared up after a signal may take so long; then the process ends as it is, which a kill may do at any time.
GRACE_S = 10.0
GOES_ON = "the same command goes on from here"
# How torch, whose RuntimeErrors have no class of their own on a CPU, says that memory is short.
SHORT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


class BrokeOff(RuntimeError):
    """Work that cannot go on; the message is one sentence for the user."""


class Ending:
    """Ends the program with a sentence: `with Ending("mi_short"): …`.

    SIGINT and SIGTERM raise KeyboardInterrupt in the block, so that it can clear up; a second signal, or `GRACE_S`
    seconds, end the process at once. While modules load (see `loading`) the first one does: there is nothing to clear
    up, and an `except:` in one of them might swallow the interruption.
    """

    def __init__(self, name: str, goes_on: str = GOES_ON) -> None:
        """name: of the program. goes_on: what a sentence about an interruption says of the next run."""
        self.name, self.goes_on = name, goes_on
        self._owner = os.getpid()
        self._loading = False
        self._signal: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Ending":
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        if threading.current_thread() is threading.main_thread():  # no other thread may
            self._before = {number: signal.signal(number, self._heed) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        status = None
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
        """Import modules in the block; raises ImportError as ValueError, in one sentence."""
        self._loading = True
        try:
            yield
        except (ImportError, MemoryError) as error:
            raise ValueError(f"a library cannot be loaded: {one_line(error)}") from error
        finally:
            self._loading = False

    def _heed(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a forked child, which ends as if nothing had been set
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if self._loading or self._signal is not None:
            self._end_now(number)
        self._signal = number
        watch = threading.Timer(GRACE_S, self._end_now, [number])
        watch.daemon = True
        watch.start()
        raise KeyboardInterrupt

    def _end_now(self, number: int) -> None:
        os.write(2, f"{self._last_words(number)}\n".encode("utf-8", "backslashreplace"))
        os._exit(128 + number)

    def _last_words(self, number: int) -> str:
        return f"{self.name}: {SIGNALS[signal.Signals(number)]}; {self.goes_on}"

    def _explain(self, error: BaseException) -> int | None:
        """Say what ended the program; the exit status, or None where the error is nobody's to explain."""
        status, sentence = BROKE_OFF, one_line(error)
        if isinstance(error, ValueError):
            status = REFUSED
        elif isinstance(error, KeyboardInterrupt):  # of a thread that cannot set handlers
            status, sentence = 128 + signal.SIGINT, f"interrupted; {self.goes_on}"
        elif isinstance(error, OSError):
            sentence = describe_os_error(error)
        elif isinstance(error, MemoryError) or any(words in str(error).lower() for words in SHORT_OF_MEMORY):
            sentence = f"there is not enough memory ({sentence}): smaller batches need less"
        elif not isinstance(error, BrokeOff):
            return None
        log.error("%s: %s", self.name, sentence)
        return status


def describe_os_error(error: OSError) -> str:
    """Return what the system says of a file, in one sentence that names it, such as "out/x: no space left on device".
    """
    named = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    if error.strerror is None:
        return one_line(error)
    reason = error.strerror[:1].lower() + error.strerror[1:]
    way_out = ": free some space and run the same command again" if is_full(error) else ""
    return f"{' → '.join(named) or 'a file'}: {reason}{way_out}"


def is_full(error: OSError) -> bool:
    """Return whether there was no space, or no quota, left to write into."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn an OSError of the block, which comes before any work, into a ValueError that begins with the setting."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{what}: {describe_os_error(error)}") from error


def count(least: int) -> Callable[[str], int]:
    """Return what reads an option that is a whole number from `least` on, for `add_argument(type=…)`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return value

    return read
