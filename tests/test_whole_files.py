"""Tests that a file is there whole or not at all."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from descant.whole_files import write_whole


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
