"""Index lines survive several writers, torn ends and a compaction under way."""

import errno
import json
import multiprocessing
import os
import pickle
import resource
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from descant.data.features import (
    FeatureError,
    FeatureIndex,
    FeatureStore,
    IndexEntry,
    decode_record,
    encode_record,
    record_bytes,
    settings_hash,
)


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


SHAPE = (128, 1001)


def round_trip(values: np.ndarray, encoding: str = "int16") -> np.ndarray:
    record = encode_record(values, values.shape, encoding)
    assert len(record) == record_bytes(values.shape, encoding)
    return decode_record(memoryview(record), 0, np.empty(values.shape, np.float32), encoding)


@pytest.mark.parametrize(("low", "high"), [(-100, 60), (-100, 100), (-100, -99.9), (0, 1e-6), (-100, 385)])
def test_decibels_of_any_range_come_back_within_five_thousandths(low, high):
    values = np.random.default_rng(0).uniform(low, high, SHAPE).astype(np.float32)
    values.flat[:2] = low, high
    assert np.abs(round_trip(values) - values).max() < 0.005


@pytest.mark.parametrize("value", [-100.0, 0.0, 3.25])
def test_constant_feature_is_exact(value):
    values = np.full((4, 4), value, np.float32)
    assert (round_trip(values) == values).all()


def test_ten_seconds_take_less_than_260_kb():
    assert record_bytes(SHAPE, "int16") == record_bytes(SHAPE, "float16") <= 260_000


def test_record_is_read_at_its_place_among_others():
    values = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    buffer = b"x" * 64 + encode_record(values, (2, 3), "float16")
    out = np.empty((2, 3), np.float32)
    assert decode_record(memoryview(buffer), 64, out, "float16") is out
    np.testing.assert_array_equal(out, values.astype(np.float16))


def test_damaged_header_is_told():
    record = b"x" + encode_record(np.zeros((2, 3), np.float32), (2, 3), "int16")[1:]
    with pytest.raises(FeatureError, match="header is damaged"):
        decode_record(memoryview(record), 0, np.empty((2, 3), np.float32), "int16")


@pytest.mark.parametrize(
    ("values", "encoding", "reason"),
    [
        (np.full((2, 3), np.nan, np.float32), "int16", "NaN or infinite"),
        (np.zeros((3, 2), np.float32), "int16", "does not fit"),
        (np.full((2, 3), 70_000, np.float32), "float16", "float16 cannot hold"),
    ],
)
def test_what_cannot_be_held_is_refused(values, encoding, reason):
    with pytest.raises(FeatureError, match=reason):
        encode_record(values, (2, 3), encoding)


SETTINGS = {"n_fft": 1024, "feature_shape": [8, 21]}


def random_mel(seed: int, shape: tuple[int, ...] = (8, 21)) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-100, 60, shape).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path, SETTINGS)


def fill(root: Path, first: int, count: int) -> None:
    store = FeatureStore(root, SETTINGS)
    for number in range(first, first + count):
        store.write(f"clip{number}", random_mel(number), f"sha{number}")
    store.close()


def test_ten_second_mel_comes_back_within_five_millibels_and_260_kb(tmp_path):
    store = FeatureStore(tmp_path, {"feature_shape": [128, 1001]})
    mel = random_mel(0, (128, 1001))
    store.write("a", mel, "sha")
    assert np.abs(store.read("a") - mel).max() < 0.005
    assert store.record_bytes <= 260_000
    assert sum(file.stat().st_size for file in store.folder.glob("shard-*.bin")) == store.record_bytes


def test_read_restores_into_the_given_buffer(store):
    store.write("a", random_mel(1), "sha")
    out = np.empty((8, 21), np.float32)
    assert store.read("a", out=out) is out
    np.testing.assert_allclose(out, random_mel(1), atol=0.005)
    assert store.sha256("a") == "sha" and "a" in store and list(store.keys()) == ["a"] and len(store) == 1


def test_constant_mel_of_silence_is_exact(store):
    store.write("a", np.full((8, 21), -100, np.float32), "sha")
    assert (store.read("a") == -100).all()


@pytest.mark.parametrize("out", [np.empty((8, 20), np.float32), np.empty((8, 21)), np.empty((21, 8), np.float32).T])
def test_buffer_that_does_not_fit_is_refused(store, out):
    store.write("a", random_mel(1), "sha")
    with pytest.raises(ValueError, match="must be contiguous float32"):
        store.read("a", out=out)


def test_float16_records_of_another_shape(tmp_path):
    store = FeatureStore(tmp_path, {"encoder": "mert", "feature_encoding": "float16"}, shape=(5, 3))
    states = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    store.write("a", states, "sha")
    np.testing.assert_array_equal(store.read("a"), states.astype(np.float16).astype(np.float32))
    with pytest.raises(FeatureError, match="float16 cannot hold"):
        store.write("b", states * 1e6, "sha")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_value_that_is_not_finite_is_refused(store, bad):
    mel = random_mel(0)
    mel[3, 4] = bad
    with pytest.raises(FeatureError, match="NaN or infinite"):
        store.write("a", mel, "sha")
    assert "a" not in store


def test_mel_of_another_shape_is_refused(store):
    with pytest.raises(FeatureError, match="does not fit"):
        store.write("a", random_mel(0, (8, 20)), "sha")


def test_unknown_clip_names_the_store_and_the_command(store):
    with pytest.raises(KeyError, match="descant features"):
        store.read("nobody")


def test_changed_setting_never_meets_an_old_feature(tmp_path):
    FeatureStore(tmp_path, SETTINGS).write("a", random_mel(0), "sha")
    assert "a" not in FeatureStore(tmp_path, SETTINGS | {"n_fft": 512})
    assert "a" in FeatureStore(tmp_path, SETTINGS)


def test_bookkeeping_of_saved_extractors_does_not_change_the_key():
    saved = SETTINGS | {"processor_class": "P", "feature_extractor_type": "F", "_commit_hash": "c"}
    assert settings_hash(saved) == settings_hash(SETTINGS)


def test_settings_without_a_shape_are_refused(tmp_path):
    with pytest.raises(ValueError, match="feature_shape"):
        FeatureStore(tmp_path, {"n_fft": 1024})


def test_edited_settings_file_is_refused(store):
    store.write("a", random_mel(0), "sha")
    store.close()
    path = store.folder / "settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n_fft": 1}))
    with pytest.raises(FeatureError, match="does not belong"):
        FeatureStore.open(store.folder)


ODD_SETTINGS = ["[1]", "{}", "[" * 100_000, '{"feature_shape": 5}', '{"feature_shape": ["x"]}', "{"]
ODD_SETTINGS += ['{"feature_shape": [1, 1' + ", 1" * 99 + "]}", '{"feature_shape": [4294967296, 4294967296]}']
ODD_SETTINGS += [f'{{"feature_shape": [2], "feature_encoding": {wrong}}}' for wrong in ('["int16"]', 5)]


@pytest.mark.parametrize("text", ODD_SETTINGS)
def test_settings_of_another_form_are_refused_by_name(store, text):
    store.write("a", random_mel(0), "sha")
    (store.folder / "settings.json").write_text(text)
    with pytest.raises(FeatureError, match=r"settings\.json: no feature store"):
        FeatureStore.open(store.folder)


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EACCES, errno.EMFILE])
def test_a_shard_out_of_reach_is_named_and_not_called_damaged(store, monkeypatch, number):
    def fail(*_args, **_settings):
        raise OSError(number, os.strerror(number))

    store.write("a", random_mel(0), "sha")
    store.close()
    monkeypatch.setattr("descant.data.features.mmap.mmap", fail)
    for act in (lambda: store.read("a"), store.verify, store.repair):
        with pytest.raises(OSError, match=r"shard-.*\.bin") as raised:
            act()
        assert raised.value.errno == number
    monkeypatch.undo()
    assert store.verify() == [] and "a" in store


def test_settings_are_written_whole_or_not_at_all(store, monkeypatch):
    def fail(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match=r"No space left on device: '.*settings\.json'"):
        store.write("a", random_mel(0), "sha")
    assert list(store.folder.iterdir()) == []


def test_a_full_disk_is_told_with_the_shard(store):
    store.write("a", random_mel(0), "sha")
    size, hard = store.record_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # no file may grow beyond the first record
    try:
        with pytest.raises(OSError, match=r"'.*shard-.*\.bin'"):
            store.write("b", random_mel(1), "sha")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    store.refresh()
    assert list(store.keys()) == ["a"] and store.verify() == []


def test_a_full_disk_is_told_with_the_index(store, monkeypatch):
    def fail(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("descant.data.features.os.write", fail)
    with pytest.raises(OSError, match=r"No space left on device: '.*index\.jsonl'"):
        store.write("a", random_mel(0), "sha")


@pytest.mark.parametrize("position", [4, 8])
def test_record_whose_scale_is_no_number_is_damaged(store, position):
    store.write("a", random_mel(0), "sha")
    (shard,) = store.folder.glob("shard-*")
    with shard.open("r+b") as file:
        file.seek(position)
        file.write(np.float32("nan").tobytes())
    with pytest.raises(FeatureError, match="a: the record's header is damaged"):
        store.read("a")


def test_store_opens_by_its_folder(store):
    store.write("a", random_mel(0), "sha")
    np.testing.assert_array_equal(FeatureStore.open(store.folder).read("a"), store.read("a"))


def test_second_write_of_a_clip_replaces_the_first(store):
    store.write("a", random_mel(0), "old")
    store.write("a", random_mel(1), "new")
    again = FeatureStore(store.root, SETTINGS)
    assert again.sha256("a") == "new" and len(again) == 1
    np.testing.assert_allclose(again.read("a"), random_mel(1), atol=0.005)


def test_reader_sees_what_another_store_appends(store):
    reader = FeatureStore(store.root, SETTINGS)
    assert "a" not in reader
    for name in ("a", "b"):  # the second lies past the end of the first map
        store.write(name, random_mel(0), "sha")
        np.testing.assert_allclose(reader.read(name), random_mel(0), atol=0.005)


def test_several_writers_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=fill, args=(tmp_path, first, 30)) for first in (0, 20, 40)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(300)
    store = FeatureStore(tmp_path, SETTINGS)
    assert sorted(store.keys()) == sorted(f"clip{number}" for number in range(70)) and store.verify() == []


def test_store_written_in_a_forked_child_keeps_to_its_own_shard(store):
    store.write("parent", random_mel(0), "sha")
    context = multiprocessing.get_context("fork")
    child = context.Process(target=store.write, args=("child", random_mel(1), "sha"))
    child.start()
    child.join(300)
    store.write("parent2", random_mel(2), "sha")
    assert store.verify() == [] and len(store) == 3
    assert len(list(store.folder.glob("shard-*.bin"))) == 2


def fill_forever(root: Path) -> None:
    store = FeatureStore(root, SETTINGS)
    for number in range(10**9):
        if f"clip{number}" not in store:
            store.write(f"clip{number}", random_mel(number), f"sha{number}")


def count_index_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.glob("*/index.jsonl"))


def test_kills_leave_only_whole_records(tmp_path):
    context = multiprocessing.get_context("fork")
    for delay in np.random.default_rng(0).uniform(0.02, 0.08, 8):
        before = count_index_bytes(tmp_path)
        writer = context.Process(target=fill_forever, args=(tmp_path,))
        writer.start()
        while count_index_bytes(tmp_path) == before:  # however slow the machine is
            time.sleep(0.005)
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join(300)
    store = FeatureStore(tmp_path, SETTINGS)
    assert store.verify() == [] and len(store) >= 8
    for number in range(len(store)):
        np.testing.assert_allclose(store.read(f"clip{number}"), random_mel(number), atol=0.005)


def test_torn_index_line_costs_its_own_record_only(store):
    store.write("a", random_mel(0), "sha")
    with open(store.folder / "index.jsonl", "ab") as file:
        file.write(b'{"clip_id": "b", "sha')
    again = FeatureStore(store.root, SETTINGS)
    again.write("c", random_mel(1), "sha")
    assert sorted(FeatureStore(store.root, SETTINGS).keys()) == ["a", "c"]


def damage_header(store: FeatureStore) -> str:
    shard = next(store.folder.glob("shard-*.bin"))
    return flip(shard, 0)


def flip(path: Path, offset: int) -> str:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    return path.name


@pytest.mark.parametrize("offset", [0, 5, 30, 64, 64 + 2 * 8 * 21 - 1])
def test_verify_finds_one_flipped_bit_of_a_record_and_repair_forgets_it(store, offset):
    for number in range(3):
        store.write(f"clip{number}", random_mel(number), "sha")
    store.close()
    flip(next(store.folder.glob("shard-*.bin")), store.record_bytes + offset)
    assert [damage.clip_id for damage in store.verify()] == ["clip1"]
    assert [damage.clip_id for damage in store.repair()] == ["clip1"]
    assert sorted(store.keys()) == ["clip0", "clip2"] and store.verify() == []
    assert sorted(FeatureStore(store.root, SETTINGS).keys()) == ["clip0", "clip2"]


def test_any_flipped_byte_of_the_index_is_found_and_repaired(store):
    for number in range(3):
        store.write(f"clip{number}", random_mel(number), "sha")
    store.close()
    path = store.folder / "index.jsonl"
    original = path.read_bytes()
    manifest = store.manifest()
    for offset in range(1, len(original), 37):
        flip(path, offset)
        damaged = FeatureStore(store.root, SETTINGS)
        assert damaged.verify() or damaged.manifest() == manifest  # a newline between lines carries nothing
        damaged.repair()
        assert damaged.verify() == []
        path.write_bytes(original)


def test_shard_that_is_cut_off_or_gone_is_found(store):
    for number in range(2):
        store.write(f"clip{number}", random_mel(number), "sha")
    store.close()
    shard = next(store.folder.glob("shard-*.bin"))
    shard.write_bytes(shard.read_bytes()[:-10])
    assert [damage.clip_id for damage in store.verify()] == ["clip1"]
    with pytest.raises(FeatureError, match="clip1: the shard is cut off"):
        FeatureStore(store.root, SETTINGS).read("clip1")
    shard.unlink()
    assert len(FeatureStore(store.root, SETTINGS).verify()) == 2


def test_lost_or_cut_index_is_found(store):
    store.write("a", random_mel(0), "sha")
    path = store.folder / "index.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    assert "cut off" in FeatureStore(store.root, SETTINGS).verify()[0].reason
    path.unlink()
    assert "is gone" in FeatureStore(store.root, SETTINGS).verify()[0].reason


def test_index_line_that_names_a_file_elsewhere_is_not_followed(store):
    store.write("a", random_mel(0), "sha")
    store.close()
    path = store.folder / "index.jsonl"
    shard = next(store.folder.glob("shard-*.bin")).name
    path.write_bytes(path.read_bytes().replace(shard.encode(), b"../../secret"))
    assert "a" not in FeatureStore(store.root, SETTINGS)


def test_writer_goes_on_in_the_compacted_index(store):
    other = FeatureStore(store.root, SETTINGS)
    store.write("a", random_mel(0), "sha")
    other.write("b", random_mel(1), "sha")
    flip(store.folder / next(store.folder.glob("shard-*.bin")).name, 70)
    assert len(FeatureStore(store.root, SETTINGS).repair()) == 1
    store.write("c", random_mel(2), "sha")
    assert len(FeatureStore(store.root, SETTINGS)) == 2


def test_manifest_does_not_depend_on_order_or_shards(tmp_path):
    fill(tmp_path / "a", 0, 6)
    fill(tmp_path / "b", 3, 3)
    fill(tmp_path / "b", 0, 4)
    assert FeatureStore(tmp_path / "a", SETTINGS).manifest() == FeatureStore(tmp_path / "b", SETTINGS).manifest()


def test_pickled_store_carries_no_data(store):
    store.write("a", random_mel(0), "sha")
    text = pickle.dumps(store)
    assert len(text) < 1000
    np.testing.assert_array_equal(pickle.loads(text).read("a"), store.read("a"))


class Mels(Dataset):
    def __init__(self, store: FeatureStore):
        self.store, self.clips = store, sorted(store.keys())

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.store.read(self.clips[index])


@pytest.mark.parametrize(("method", "workers"), [("fork", 2), ("spawn", 1)])  # each spawned one imports torch
def test_data_loader_workers_read_what_the_parent_reads(tmp_path, method, workers):
    fill(tmp_path, 0, 8)
    dataset = Mels(FeatureStore(tmp_path, SETTINGS))
    loaded = list(DataLoader(dataset, batch_size=4, num_workers=workers, multiprocessing_context=method))
    assert np.array_equal(np.concatenate(loaded), np.stack([dataset[i] for i in range(8)]))
