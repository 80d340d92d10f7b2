"""Locks between processes: one holder at a time, and none after its end."""

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from descant.files import hold_lock, write_whole

HOLD = """
import sys, time
from pathlib import Path
from descant.files import hold_lock
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


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    for content in ("before", "après", b"\x00\xff"):
        write_whole(tmp_path / "new" / "a.csv", content)
    assert (tmp_path / "new" / "a.csv").read_bytes() == b"\x00\xff"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.csv"]


def test_names_that_are_not_text_come_out_as_they_were(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.csv", "caf\udce9.wav, é")
    assert (tmp_path / "a.csv").read_bytes() == b"caf\xe9.wav, \xc3\xa9"


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.csv", "before")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "a.csv", "\ud800")
    assert (tmp_path / "a.csv").read_text() == "before"


def test_several_may_write_the_same_file_at_once(tmp_path: Path) -> None:
    texts = [str(number) * 1000 for number in range(10)] * 20
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_whole(tmp_path / "a.json", text), texts))
    assert (tmp_path / "a.json").read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
