"""Fixtures that every test may use: the optional folder of reference values beside the checkout."""

import gc
import logging
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

# Two workers share two cores; torch reads this when it is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No Hub is reached from here, and waiting for one changes no outcome; tests about waits set their own.
os.environ.setdefault("DESCANT_HUB_WAIT_S", "0.01")
# A shell lets what it starts in the background ignore interrupts, and so would every program that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["hub_fixtures"]


def pytest_collection_finish() -> None:
    """Leave what has been collected out of every later collection of garbage: it lives as long as the process."""
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Workers send what was captured as UTF-8, which file names in it need not be."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def _own_signals_and_logs() -> Iterator[None]:
    """What programs set that are run inside a test, handlers of signals and of logs, ends with the test."""
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    root = logging.getLogger()
    level = root.level
    yield
    for number, handler in signals.items():
        signal.signal(number, handler)
    for handler in root.handlers[:]:
        if type(handler).__module__.startswith("descant"):
            root.removeHandler(handler)
    root.setLevel(level)


SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference checkpoints and real recordings; its tests skip where it is absent."""
    if not (SHARED / "reference").is_dir():
        pytest.skip("no reference folder beside the checkout")
    return SHARED
