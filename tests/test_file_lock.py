"""Locks between processes: one holder at a time, and none after its end."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from descant.file_lock import hold_lock

HOLD = """
import sys, time
from pathlib import Path
from descant.file_lock import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_that_another_process_holds_is_busy_until_that_is_killed(tmp_path):
    path = tmp_path / "folder" / ".lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match="in use"), hold_lock(path, "in use"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with hold_lock(path, "in use"):
        pass


def test_without_a_word_for_it_the_other_holder_is_waited_for(tmp_path):
    order = []

    def follow() -> None:
        with hold_lock(tmp_path / ".lock"):
            order.append("second")

    with hold_lock(tmp_path / ".lock"):
        thread = threading.Thread(target=follow)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
