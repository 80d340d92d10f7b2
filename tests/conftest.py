"""Fixtures that every test may use: the optional folder of reference values beside the checkout."""

import gc
import logging
import os
import signal
from collections import Counter
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


# Files of few tests that take seconds each: begun with, or one worker ends with them while the other has nothing left.
FIRST = (
    "commands/test_evaluate_command.py", "commands/test_serve.py", "datasets_scripts/test_make_demo_corpus.py",
    "doors/test_export.py", "evaluation/test_spaces.py", "models/lp_music_caps/test_pipeline_music.py",
    "models/lp_music_caps/test_remote_code.py", "models/mert_lm/test_remote_code_mert_lm.py", "models/test_loading.py",
    "publish/test_fresh_process.py", "recipes/test_captions_from_qa.py", "recipes/test_recipes.py",
    "subgenre/test_subgenre_run.py", "test_docs.py", "test_static.py", "training/test_adapters.py",
    "training/test_fsdp.py", "training/test_saving.py", "training/test_training_run.py",
    "training/test_two_processes.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give xdist's workers the slow files first, then the others by the number of their tests, as it does itself."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        here = Path(__file__).parent
        files = {item.path: item.path.relative_to(here).as_posix() for item in items}
        counts = Counter(item.path for item in items)
        items.sort(key=lambda item: (files[item.path] not in FIRST, -counts[item.path], files[item.path]))


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
