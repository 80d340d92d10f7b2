"""The same rows whoever describes: one process, several, or the workers of a Ray cluster of which a node is killed."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import soundfile
from made_up import describe
from sounds import tone

from descant import cli
from descant.collections import engines
from descant.collections.describing import Job, Outcome, describe_songs
from descant.data.audio import AudioError
from descant.files import JsonLines
from descant.program import BrokeOff

SETTINGS = {"weights": "w", "hear": 12}
BAD = "a bad one.wav"
FATAL = "a fatal one.wav"  # ends the process that describes it


def read(path: Path) -> list[dict[str, Any]]:
    return list(JsonLines(path).read(whole=True))


class Model:
    """Describes by name, anywhere; `doomed` is a file with the id of a node whose worker stops at its second block."""

    def __init__(self, folder: Path) -> None:
        self.doomed, self.stuck, self.asked = folder / "doomed", folder / "stuck", folder / "asked.txt"
        self.here = 0

    def load(self) -> Callable[[str], dict[str, Any]]:
        return self.describe

    def describe(self, song: str) -> dict[str, Any]:
        self.here += 1
        with self.asked.open("a", errors="surrogateescape") as file:
            file.write(f"{song}\n")
        if song == BAD:
            raise AudioError(song, "cannot be read as sound")
        if song == FATAL:
            os._exit(1)
        while self.here > engines.SONGS_A_BLOCK and self.doomed.exists() and self._must_wait():
            time.sleep(0.1)
        return describe(song)

    def _must_wait(self) -> bool:
        """Return True on the doomed node, until it is killed, and on others until it is in the middle of a block."""
        import ray

        if ray.get_runtime_context().get_node_id() == self.doomed.read_text():
            self.stuck.touch()
            return True
        return not self.stuck.exists()


class OneOfTwo(engines.OneProcess):
    """One of two processes that share a job; they are threads here."""

    count = 2

    def __init__(self, rank: int, barrier: threading.Barrier) -> None:
        self.rank, self.wait = rank, barrier.wait


def test_of_two_processes_each_describes_its_share_and_the_first_one_publishes(tmp_path: Path) -> None:
    songs = [str(tmp_path / name) for name in ("one.wav", "one.mp3", "two.wav", "three.wav")] + [BAD]
    job, barrier = Job(tmp_path / "d.csv", SETTINGS, kinds=frozenset({"json"})), threading.Barrier(2)
    for name in "ab":
        (tmp_path / name).mkdir()
    others: list[Outcome] = []

    def run_second() -> None:
        others.append(describe_songs(songs, Model(tmp_path / "b").load, job, OneOfTwo(1, barrier)))

    describe_songs(songs[3:4], Model(tmp_path).load, job)  # an earlier run's
    second = threading.Thread(target=run_second)
    second.start()
    outcome = describe_songs(songs, Model(tmp_path / "a").load, job, OneOfTwo(0, barrier))
    second.join()
    asked = [(tmp_path / name / "asked.txt").read_text().splitlines() for name in "ab"]
    assert asked == [[songs[0], songs[2]], [songs[1], BAD]]
    assert (outcome.known, outcome.described, list(outcome.failed), others[0].described) == (1, 3, [BAD], 1)
    assert outcome.left_alone == 1  # one.json belongs to one of them
    assert [one["audio"] for one in read(job.log)] == songs[:4] and job.output.exists() and job.failed.exists()
    assert not list(tmp_path.glob("*.part-*"))


def test_ray_that_is_missing_and_addresses_of_its_client_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "song.wav").write_bytes(b"sound")
    command = ["describe", str(tmp_path / "song.wav"), "--engine", "ray"]
    assert cli.main(command) == 2 and "--engine ray needs --output" in capsys.readouterr().err
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert cli.main([*command, "--output", str(tmp_path / "d.jsonl")]) == 2
    assert "--engine ray needs Ray: pip install descant[ray]" in capsys.readouterr().err
    monkeypatch.setattr(engines, "find_spec", lambda name: name)
    assert cli.main([*command, "--output", str(tmp_path / "d.jsonl"), "--ray_address", "ray://head:10001"]) == 2
    assert "start the command on a node of the cluster" in capsys.readouterr().err
    with pytest.raises(ValueError, match="127.0.0.1:9: no Ray cluster answers"):
        engines._require_answer("127.0.0.1:9")


# On a cluster of two nodes

PATIENCE_S = 600  # with a cluster on a busy machine
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "wait": False}  # for longer than Ray itself waits

@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install descant[ray]")
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_AUTO_CONNECT": "0"}
    from ray import cloudpickle
    from ray.cluster_utils import Cluster

    cloudpickle.register_pickle_by_value(__import__(__name__))
    cloudpickle.register_pickle_by_value(__import__("made_up"))
    started = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    started.wait_for_nodes(PATIENCE_S)
    yield started
    started.shutdown()


def kill_when_stuck(cluster: Any, node: Any, model: Model, part: Path) -> None:
    """Kill a node once its worker is in the middle of a block, and other blocks are done."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if model.stuck.exists() and part.exists() and part.read_bytes().count(b"\n") >= 2 * engines.SONGS_A_BLOCK:
            break
        time.sleep(0.05)
    cluster.remove_node(node, allow_graceful=False)


@pytest.mark.ray
def test_a_node_that_is_killed_loses_nothing_and_nothing_comes_twice(
    tmp_path: Path, cluster: Any, caplog: pytest.LogCaptureFixture
) -> None:
    node = cluster.add_node(**NODE)
    cluster.wait_for_nodes(PATIENCE_S)
    songs = [f"s{number:03d}.wav" for number in range(60)]
    songs[5], songs[40], songs[41] = BAD, FATAL, os.fsdecode(b"caf\xe9.wav")
    model, job = Model(tmp_path), Job(tmp_path / "d.parquet", SETTINGS)
    model.doomed.write_text(node.node_id)
    killer = threading.Thread(target=kill_when_stuck, args=(cluster, node, model, tmp_path / "d.jsonl.part-0"))
    killer.start()
    outcome = describe_songs(songs, model.load, job, engines.RayCluster(cluster.address))
    killer.join()
    assert model.stuck.exists() and len(cluster.list_all_nodes()) == 1
    assert outcome.described == 58 and outcome.failed == {BAD: f"{BAD}: cannot be read as sound", FATAL: engines.LOST}
    assert "described again, one by one" in caplog.text
    model.doomed.unlink()
    alone = Job(tmp_path / "alone.parquet", SETTINGS)
    describe_songs([song for song in songs if song != FATAL], model.load, alone)
    assert read(job.log) == read(alone.log)
    assert [row["audio"] for row in read(job.log)] == [song for song in songs if song not in (BAD, FATAL)]
    parquet = pytest.importorskip("pyarrow.parquet")
    assert parquet.read_table(job.output).equals(parquet.read_table(alone.output))


@pytest.mark.ray
def test_the_command_describes_on_a_cluster_as_in_one_process(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # names are relative to it on the workers too
    Path("music").mkdir()
    for number in range(6):
        soundfile.write(f"music/song {number}.wav", tone(2, 16_000, hertz=200 + 100 * number), 16_000)
    Path("music", "bad.wav").write_bytes(b"no sound")
    command = ["describe", "music", "--states", "--json", "--output"]
    assert cli.main([*command, "ray.csv", "--engine", "ray", "--ray_address", cluster.address]) == 1
    counts = json.loads(capsys.readouterr().out)
    assert (counts["songs"], counts["described"], counts["failed"]) == (7, 6, 1)
    assert cli.main([*command, "here.csv"]) == 1
    for suffix in (".csv", ".jsonl", ".failed.jsonl"):
        assert Path("ray").with_suffix(suffix).read_bytes() == Path("here").with_suffix(suffix).read_bytes()


@pytest.mark.ray
def test_a_model_that_workers_cannot_load_ends_the_job_with_a_sentence(tmp_path: Path, cluster: Any) -> None:
    def refuse() -> Callable[[str], dict[str, Any]]:
        raise ValueError("box is another model on a node than here")

    with pytest.raises(BrokeOff, match="workers of the Ray cluster cannot begin: .*box is another model on a node"):
        describe_songs(["a"], refuse, Job(tmp_path / "d.jsonl", SETTINGS), engines.RayCluster(cluster.address))
