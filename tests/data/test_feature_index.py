"""Index lines survive several writers, torn ends and a compaction under way."""

import threading

import pytest

from descant.data.feature_index import FeatureIndex, IndexEntry


def entry(name: str, offset: int = 0) -> IndexEntry:
    return IndexEntry(name, "shard-0123456789ab.bin", offset, "audio", "feature")


@pytest.fixture
def index(tmp_path) -> FeatureIndex:
    return FeatureIndex(tmp_path / "index.jsonl")


def reread(index: FeatureIndex) -> FeatureIndex:
    again = FeatureIndex(index.path)
    again.refresh()
    return again


def test_last_line_of_a_clip_counts_and_a_discarded_clip_is_gone(index):
    for offset, name in enumerate(["a", "b", "a"]):
        index.append(entry(name, offset))
    index.append(IndexEntry("b", None, 0, "", ""))
    assert index.entries == reread(index).entries == {"a": entry("a", 2)}


def test_refresh_reads_only_what_is_new_and_waits_for_the_end_of_a_line(index):
    reader = reread(index)
    index.append(entry("a"))
    reader.refresh()
    with open(index.path, "ab") as file:
        file.write(b"half a li")
    reader.refresh()
    assert list(reader.entries) == ["a"] and reader.faults() == ["index.jsonl: cut off at the end"]
    index.append(entry("b"))
    reader.refresh()
    assert list(reader.entries) == ["a", "b"] and reader.faults() == ["index.jsonl:3: unreadable line"]


@pytest.mark.parametrize("line", [b"[]", b"3", b"{}", b'{"check": ""}', b"\xff", b"null"])
def test_line_that_is_no_entry_is_a_fault(index, line):
    index.path.write_bytes(line + b"\n")
    assert reread(index).faults() == ["index.jsonl:1: unreadable line"]


def test_compaction_keeps_the_living_and_drops_faults(index):
    index.append(entry("a"))
    index.append(entry("a", 5))
    with open(index.path, "ab") as file:
        file.write(b"broken\n")
    index.compact()
    assert index.path.read_bytes().count(b"\n") == 1 and index.faults() == []
    assert reread(index).entries == {"a": entry("a", 5)}


def test_reader_follows_into_the_compacted_file(index):
    index.append(entry("a"))
    reader = reread(index)
    index.append(entry("b"))
    index.compact()
    index.append(entry("c"))
    reader.refresh()
    assert sorted(reader.entries) == ["a", "b", "c"]


def test_no_line_is_lost_between_appends_and_compactions(index):
    def append(first: int) -> None:
        writer = FeatureIndex(index.path)
        for number in range(first, first + 100):
            writer.append(entry(f"clip{number}"))

    writers = [threading.Thread(target=append, args=(first,)) for first in (0, 100)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        FeatureIndex(index.path).compact()
    assert len(reread(index).entries) == 200 and reread(index).faults() == []
