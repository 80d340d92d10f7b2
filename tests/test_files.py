"""Locks, files that are written whole, logs with torn lines, and digests."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from descant.files import JsonLines, gather, hold_lock, replace_whole, sha256_of, write_whole

HOLD = """
import sys, time
from pathlib import Path
from descant.files import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""

FORK = """
import os, sys, time
from pathlib import Path
from descant.files import hold_lock
with hold_lock(Path(sys.argv[1]), inherited=sys.argv[2] == "True"):
    child = os.fork()
    if not child:
        os.close(1), os.close(2)
        time.sleep(600)
    print(child, flush=True)
    os._exit(0)
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


@pytest.mark.parametrize("name", ["x" * 251 + ".csv", "🎻" * 62 + ".csv"])
def test_the_longest_name_is_written_and_a_longer_one_named_once(tmp_path: Path, name: str) -> None:
    write_whole(tmp_path / name, "whole")
    assert (tmp_path / name).read_text() == "whole"
    with pytest.raises(OSError, match="too long") as raised:
        write_whole(tmp_path / f"{name}.json", "whole")
    assert "None" not in str(raised.value)


def test_names_that_are_not_text_come_out_as_they_were(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.csv", "caf\udce9.wav, é")
    assert (tmp_path / "a.csv").read_bytes() == b"caf\xe9.wav, \xc3\xa9"


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.csv", "before")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "a.csv", "\ud800")
    assert (tmp_path / "a.csv").read_text() == "before"


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_a_pipe_or_device_is_not_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "odd"
    make(path)
    kind = path.lstat().st_mode
    with pytest.raises(OSError, match="it is no regular file") as raised:
        write_whole(path, "x")
    assert raised.value.filename == str(path) and path.lstat().st_mode == kind and list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="it names no file"):
        write_whole(Path(""), "x")


def test_several_may_write_the_same_file_at_once(tmp_path: Path) -> None:
    texts = [str(number) * 1000 for number in range(10)] * 20
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_whole(tmp_path / "a.json", text), texts))
    assert (tmp_path / "a.json").read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_children_of_a_fork_hold_an_inherited_lock_alone(tmp_path: Path) -> None:
    for inherited in (True, False):
        path = tmp_path / f"{inherited}.lock"
        run = subprocess.run([sys.executable, "-c", FORK, path, str(inherited)], capture_output=True, text=True)
        child = int(run.stdout)
        try:
            if inherited:
                with pytest.raises(ValueError, match="in use"), hold_lock(path, "in use"):
                    pass
            else:
                with hold_lock(path, "in use", inherited=False):
                    pass
        finally:
            os.kill(child, signal.SIGKILL)


def test_locks_that_are_shared_exclude_the_others_alone(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with hold_lock(path, "in use", shared=True):
        with hold_lock(path, "in use", shared=True):
            pass
        with pytest.raises(ValueError, match="in use"), hold_lock(path, "in use"):
            pass


def test_a_file_system_without_locks_is_named_and_used(tmp_path: Path, monkeypatch, caplog) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with hold_lock(tmp_path / ".lock", "in use"):
        pass
    assert "cannot be locked (No locks available)" in caplog.text


def test_a_folder_takes_the_place_of_another_when_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for name in ("first", "second"):
        with replace_whole(folder) as partial:
            (partial / "inner").mkdir(parents=True)
            (partial / "inner" / name).write_text(name)
    assert [path.name for path in folder.rglob("*")] == ["inner", "second"]
    with pytest.raises(RuntimeError), replace_whole(folder) as partial:
        partial.mkdir()
        raise RuntimeError
    assert (folder / "inner" / "second").exists() and list(tmp_path.iterdir()) == [folder]


def test_a_file_in_the_making_has_the_suffix_of_the_file(tmp_path: Path) -> None:
    with replace_whole(tmp_path / "a.flac") as partial:
        assert partial.suffix == ".flac" and partial.parent == tmp_path
        partial.write_bytes(b"sound")
    assert (tmp_path / "a.flac").read_bytes() == b"sound"


def test_errors_of_the_disk_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/a\.csv"):
        write_whole(tmp_path / "file" / "a.csv", "")
    with pytest.raises(OSError, match=r"No such file.*gone/a\.jsonl"):
        JsonLines(tmp_path / "gone" / "a.jsonl").append({"a": 1})
    with pytest.raises(OSError, match=r"No space left.*/dev/full"):
        JsonLines(Path("/dev/full")).append({"a": 1})


RECORDS = [{"id": "a"}, {"id": "caf\udce9"}, {"id": "half \ud800"}, {"id": "a\u2028b\u0085c"}, {"score": -0.5}]


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "a.jsonl")
    assert list(lines.read()) == []
    lines.append(*RECORDS[:2])
    lines.append(*RECORDS[2:], sync=True)
    assert list(lines.read(whole=True)) == RECORDS
    assert b"caf\xe9" in lines.path.read_bytes()
    lines.write(reversed(RECORDS))
    assert list(lines.read(whole=True)) == RECORDS[::-1]


@pytest.mark.parametrize("cut", range(1, 10))
def test_a_torn_line_is_left_out_and_costs_no_other(tmp_path: Path, cut: int) -> None:
    lines = JsonLines(tmp_path / "a.jsonl")
    lines.append({"id": "a"}, {"id": "b"})
    os.truncate(lines.path, lines.path.stat().st_size - cut)
    kept = [{"id": "a"}] if cut > 1 else [{"id": "a"}, {"id": "b"}]
    assert list(lines.read()) == kept
    lines.append({"id": "c"})
    assert list(lines.read()) == [*kept, {"id": "c"}]


@pytest.mark.parametrize("line", ["no json", "[1]", '{"id": "a"', "[" * 100_000])
def test_a_line_of_something_else_is_refused_where_none_can_be_torn(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "a"}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"a\.jsonl: line 2 is no JSON object"):
        list(JsonLines(tmp_path / "a.jsonl").read(whole=True))
    assert list(JsonLines(tmp_path / "a.jsonl").read()) == [{"id": "a"}]


def test_numbers_that_json_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        JsonLines(tmp_path / "a.jsonl").append({"score": float("nan")})
    assert list(JsonLines(tmp_path / "a.jsonl").read()) == []


def test_processes_append_to_one_file_without_mixing(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "a.jsonl")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: lines.append({"id": number, "text": "x" * 5000}), range(200)))
    assert sorted(record["id"] for record in lines.read(whole=True)) == list(range(200))


def test_the_parts_of_a_folder_are_gathered_by_name(tmp_path: Path) -> None:
    for name in ("part-1.jsonl", "part-0.jsonl", "other.jsonl"):
        JsonLines(tmp_path / name).append({"id": name})
    assert [record["id"] for record in gather(tmp_path, "part-*.jsonl")] == ["part-0.jsonl", "part-1.jsonl"]


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"abc")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
