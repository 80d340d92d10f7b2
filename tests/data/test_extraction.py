"""Extraction writes each clip once, goes on where it stopped, and records the clips that cannot be read."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from plain_extractor import (
    SETTINGS,
    DeadlyExtractor,
    PlainExtractor,
    StoppingExtractor,
    extract_slowly_over_two_processes,
)
from tiny import write_song

from descant.data.annotations import Row
from descant.data.clips import ClipFile
from descant.data.corpus import load_corpus
from descant.data.extraction import extract_features, keep_heard, prepare_features, read_skipped
from descant.data.features import FeatureStore
from descant.models.lp_music_caps import LPMusicCapsFeatureExtractor
from descant.program import BrokeOff

EXTRACTOR = LPMusicCapsFeatureExtractor(window_s=0.5)


def tone(path: Path, seconds: float = 0.5, pitch: float = 440.0, rate: int = 16000) -> str:
    time_s = np.arange(round(seconds * rate)) / rate
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch * time_s), rate)
    return str(path)


def tones(folder: Path, count: int) -> dict[str, str]:
    return {f"clip{i}": tone(folder / f"clip{i}.wav", pitch=200 + 10 * i) for i in range(count)}


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "features", EXTRACTOR.to_dict())


@pytest.fixture
def plain_store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "plain", SETTINGS)


def test_feature_is_the_extractors_and_is_written_once(tmp_path, store):
    clips = tones(tmp_path, 3)
    first = extract_features(clips, EXTRACTOR, store)
    assert (first.written, first.present, first.problems) == (3, 0, [])
    waveform, _ = soundfile.read(clips["clip1"], dtype="float32")
    np.testing.assert_allclose(store.read("clip1"), EXTRACTOR.extract(waveform), atol=0.005)
    size = sum(file.stat().st_size for file in store.folder.glob("shard-*"))
    assert extract_features(clips, EXTRACTOR, store).present == 3
    assert sum(file.stat().st_size for file in store.folder.glob("shard-*")) == size == 3 * store.record_bytes


def test_array_and_file_of_the_same_sound_have_one_feature_hash(tmp_path, store):
    path = tone(tmp_path / "a.wav")
    waveform, _ = soundfile.read(path, dtype="float32")
    extract_features({"file": path, "array": waveform}, EXTRACTOR, store)
    assert store.feature_sha256("file") == store.feature_sha256("array")
    assert store.sha256("file") != store.sha256("array")


def test_bad_clips_are_recorded_and_the_rest_goes_on(tmp_path, store):
    clips = tones(tmp_path, 2)
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 16000)
    soundfile.write(tmp_path / "nan.wav", np.full(8000, np.nan), 16000, subtype="FLOAT")
    bad = {name: str(tmp_path / f"{name}.wav") for name in ("text", "empty", "silent", "nan", "gone")}
    done = extract_features(bad | clips, EXTRACTOR, store)
    assert done.written == 2 and sorted(problem.clip_id for problem in done.problems) == sorted(bad)
    assert sorted(read_skipped(store)) == sorted(bad) and "silent" in read_skipped(store)["silent"]


def test_record_of_skipped_clips_is_written_whole_or_not_at_all(tmp_path, store, monkeypatch):
    (tmp_path / "text.wav").write_text("no sound")
    extract_features({"text": str(tmp_path / "text.wav")}, EXTRACTOR, store)
    before = read_skipped(store)

    def fail(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match=r"No space left on device: '.*skipped\.jsonl'"):
        extract_features({"other": str(tmp_path / "text.wav")}, EXTRACTOR, store)
    assert read_skipped(store) == before != {}
    assert [path.name for path in store.folder.iterdir()] == ["skipped.jsonl"]


def test_mended_clip_leaves_the_record_of_skipped_ones(tmp_path, store):
    (tmp_path / "a.wav").touch()
    (tmp_path / "b.wav").touch()
    clips = {"a": str(tmp_path / "a.wav"), "b": str(tmp_path / "b.wav")}
    extract_features(clips, EXTRACTOR, store)
    tone(tmp_path / "a.wav")
    assert extract_features({"a": clips["a"]}, EXTRACTOR, store).written == 1
    assert list(read_skipped(store)) == ["b"]


def test_recheck_computes_anew_only_what_sounds_different(tmp_path, store):
    clips = tones(tmp_path, 2)
    extract_features(clips, EXTRACTOR, store)
    tone(tmp_path / "clip0.wav", pitch=999)
    assert extract_features(clips, EXTRACTOR, store).written == 0
    done = extract_features(clips, EXTRACTOR, store, recheck=True)
    assert (done.written, done.present) == (1, 1)


def test_recheck_counts_a_window_of_the_same_file_as_another_sound(tmp_path, store):
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.concatenate([0.3 * np.sin(np.arange(8000) / (10 - 5 * half)) for half in (0, 1)]), 16000)
    extract_features({"a": ClipFile(path, 0, 0.5)}, EXTRACTOR, store)
    first = store.feature_sha256("a")
    assert extract_features({"a": ClipFile(path, 0.5, 1)}, EXTRACTOR, store, recheck=True).written == 1
    assert store.feature_sha256("a") != first


def test_recheck_keeps_what_was_heard_of_a_file_that_is_gone_but_not_of_one_that_broke(tmp_path, store):
    clips = tones(tmp_path, 2)
    extract_features(clips, EXTRACTOR, store)
    (tmp_path / "clip0.wav").unlink()
    (tmp_path / "clip1.wav").write_text("no sound")
    done = extract_features(clips, EXTRACTOR, store, recheck=True)
    assert (done.written, done.present, [problem.clip_id for problem in done.problems]) == (0, 1, ["clip1"])
    assert list(store.keys()) == ["clip0"]


def test_processes_give_what_one_gives(tmp_path):
    clips = tones(tmp_path, 40) | {"bad": str(tmp_path / "gone.wav")}
    one, two = FeatureStore(tmp_path / "one", SETTINGS), FeatureStore(tmp_path / "two", SETTINGS)
    extract_features(clips, PlainExtractor(), one, processes=1)
    done = extract_features(clips, PlainExtractor(), two, processes=2)
    assert done.written == 40 and [problem.clip_id for problem in done.problems] == ["bad"]
    assert one.manifest() == two.manifest() and two.verify() == []


def test_run_after_kills_ends_with_the_same_features(tmp_path, plain_store):
    clips = tones(tmp_path, 30)
    whole = FeatureStore(tmp_path / "whole", SETTINGS)
    extract_features(clips, PlainExtractor(), whole)
    context = multiprocessing.get_context("fork")
    for features in (3, 7, 12):
        run = context.Process(target=extract_features, args=(clips, StoppingExtractor(pause_s=0.004), plain_store, 1))
        run.start()
        while run.is_alive() and len(plain_store) < features:
            time.sleep(0.002)
            plain_store.refresh()
        os.kill(run.pid, signal.SIGKILL)
        run.join(300)
    plain_store.refresh()
    assert 0 < len(plain_store) < 30
    extract_features(clips, PlainExtractor(), plain_store)
    assert plain_store.manifest() == whole.manifest() and plain_store.verify() == []


def test_workers_die_with_a_run_that_is_killed(tmp_path, plain_store):
    path = tone(tmp_path / "a.wav")
    clips = {f"clip{i}": path for i in range(20_000)}
    # Not a fork: that would inherit the fork server of another test, which is no child of its own.
    context = multiprocessing.get_context("spawn")
    run = context.Process(target=extract_slowly_over_two_processes, args=(clips, plain_store))
    run.start()
    wait_until(lambda: len(list(plain_store.folder.glob("shard-*.bin"))) == 2)
    started = psutil.Process(run.pid).children(recursive=True)
    workers = [one for one in started if writes_below(one, plain_store.folder)]
    assert len(workers) == 2
    os.kill(run.pid, signal.SIGKILL)
    run.join(300)
    wait_until(lambda: not any(is_at_work(one) for one in workers), seconds=120)
    plain_store.refresh()
    assert 0 < len(plain_store) < len(clips)


def writes_below(process: psutil.Process, folder: Path) -> bool:
    """Whether a process has a shard of a folder open."""
    return any(Path(file.path).match(f"{folder.name}/shard-*.bin") for file in process.open_files())


def is_at_work(process: psutil.Process) -> bool:
    """Whether a process has not ended; who it was a child of may not have asked for its status."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


INTERRUPTED = """
import sys, time
from descant.data.extraction import start_fork_server

if sys.argv[0] == "-c":  # of the fork server, which imports this as one of its modules
    print("busy", flush=True)
    time.sleep(60)
elif __name__ == "__main__":
    try:
        start_fork_server("slow").Process(target=print).start()
    except (KeyboardInterrupt, EOFError):
        print("over")
"""


def test_a_fork_server_that_is_interrupted_while_it_imports_ends_silently(tmp_path):
    (tmp_path / "slow.py").write_text(INTERRUPTED)
    ready = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    with subprocess.Popen([sys.executable, "slow.py"], cwd=tmp_path, **ready) as process:
        assert process.stdout.readline() == "busy\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=50)[0] == "over\n", "or it is alive, and keeps the pipe open"


def wait_until(condition, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


class OddClip:
    """Raises something that no reader of sound raises."""

    name = "odd"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def load(self, sampling_rate: int, window_s: float) -> tuple[np.ndarray, str]:
        raise self.error

    def sha256(self) -> str:
        return ""


@pytest.mark.parametrize("error", [KeyError("bytes"), MemoryError(), RecursionError(), FileNotFoundError(2, "gone")])
def test_whatever_a_clip_raises_is_its_own_problem(tmp_path, plain_store, error):
    clips = {"odd": OddClip(error), **tones(tmp_path, 1)}
    done = extract_features(clips, PlainExtractor(), plain_store)
    assert (done.written, done.present, [problem.clip_id for problem in done.problems]) == (1, 0, ["odd"])
    assert done.problems[0].reason and read_skipped(plain_store).keys() == {"odd"}


def test_a_disk_without_space_is_no_fault_of_a_clip(tmp_path, plain_store, monkeypatch):
    def fail(self, clip_id: str, record: bytes, sha256: str) -> None:
        raise OSError(28, "No space left on device", "shard")

    monkeypatch.setattr(FeatureStore, "write_record", fail)
    with pytest.raises(OSError, match="No space left on device: 'shard'"):
        extract_features(tones(tmp_path, 2), PlainExtractor(), plain_store)


def test_without_shared_memory_one_process_does_the_work(tmp_path, plain_store, monkeypatch, caplog):
    def fail(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("descant.data.extraction.ProcessPoolExecutor", fail)
    assert extract_features(tones(tmp_path, 2), PlainExtractor(), plain_store, processes=2).written == 2
    assert "--processes 1" in caplog.text and "/dev/shm" in caplog.text


def test_a_worker_that_is_killed_ends_the_run_in_a_sentence(tmp_path, plain_store):
    with pytest.raises(BrokeOff, match="a process that computes features was killed.*--processes 1"):
        extract_features(tones(tmp_path, 2), DeadlyExtractor(), plain_store, processes=2)


def test_clip_longer_than_the_window_is_heard_from_its_start(tmp_path, store):
    long = ClipFile(tone(tmp_path / "long.wav", seconds=3), is_clip=True)
    extract_features({"long": long, "short": tone(tmp_path / "short.wav")}, EXTRACTOR, store)
    np.testing.assert_allclose(store.read("long"), store.read("short"), atol=0.01)


TRAINED_EXTRACTOR = LPMusicCapsFeatureExtractor(window_s=1.0)


def prepare(table: Path, root: Path) -> FeatureStore:
    return prepare_features(load_corpus(str(table), ["captions"]), TRAINED_EXTRACTOR, str(root))


def write_table(folder: Path, hertz: float) -> Path:
    folder.mkdir(exist_ok=True)
    write_song(folder / "01.wav", seconds=1, rate=16_000, start_hertz=hertz)
    (folder / "mine.csv").write_text("audio,caption\n01.wav,a song\n")
    return folder / "mine.csv"


def test_another_dataset_with_a_file_of_the_same_name_is_heard_itself(tmp_path):
    a, b = write_table(tmp_path / "a", 200), write_table(tmp_path / "b", 900)
    of_a = prepare(a, tmp_path / "features").read("01")
    of_b = prepare(b, tmp_path / "features").read("01")
    np.testing.assert_array_equal(of_b, prepare(b, tmp_path / "only_b").read("01"))
    assert not np.array_equal(of_a, of_b)
    np.testing.assert_array_equal(prepare(a, tmp_path / "features").read("01"), of_a)


def test_file_replaced_in_place_is_heard_anew_and_one_that_stayed_is_not(tmp_path):
    table = write_table(tmp_path / "a", 200)
    store = prepare(table, tmp_path / "features")
    first, size = store.read("01"), index_size(store)
    assert index_size(prepare(table, tmp_path / "features")) == size
    write_table(tmp_path / "a", 900)
    assert not np.array_equal(prepare(table, tmp_path / "features").read("01"), first)


def index_size(store: FeatureStore) -> int:
    return (store.folder / "index.jsonl").stat().st_size


class Store(set):
    root = "features"


def configs(*clips: str) -> dict:
    rows = [Row(clip, "What?", "That.", None, "test", 0.0, 10.0) for clip in clips]
    return {"short": {"train": rows}}


def test_rows_without_features_are_left_out_and_counted(caplog):
    kept = keep_heard(configs("a", "b", "c"), Store({"a", "c"}))
    assert [row.clip_id for row in kept["short"]["train"]] == ["a", "c"]
    assert "left out, without features: 1 of the clips, b first" in caplog.text


def test_no_training_row_left_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match="no clip of the training split has features in features: pass --audio_dir"):
        keep_heard(configs("a"), Store())


def test_no_dataset_of_the_hub_is_asked_for_by_the_name_of_a_table(tmp_path, monkeypatch):
    table = tmp_path / "squad.csv"
    table.write_text("ytid,start_s,end_s,caption,is_audioset_eval\nabcdefghijk,0,10,A song.,False\n")
    monkeypatch.setattr("descant.data.extraction.import_features", lambda *_: pytest.fail("features were looked for"))
    assert len(prepare_features(load_corpus(str(table), ["captions"]), TRAINED_EXTRACTOR, str(tmp_path / "f"))) == 0
