"""Whatever asks the Hub for something does it patiently, and ends in one sentence where the Hub stays out of reach."""

from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
import pytest
import torch
from hub import LocalHub
from hub_fixtures import expect_silence, take_for_the_hub
from tiny import build_tiny_model, save_tiny_model, write_song

from descant import cli
from descant.building.dataset_folder import DatasetFacts, write_dataset_card, write_features
from descant.data.annotations import Row
from descant.data.clips import find_hub_clips
from descant.data.corpus import load_corpus
from descant.data.features import FeatureStore, import_features
from descant.data.splits import ClipHashes
from descant.data.tables import locate
from descant.publish.facts import read_records, write_records
from descant.training.start import load_start

MODEL, DATA, SOUND = "tester/m", "tester/data", "tester/sound"
CARD = """---
license: cc0-1.0
configs:
- config_name: short
  data_files: short/*.parquet
---
"""
QUESTION = "What is the genre?"


@pytest.fixture(scope="module")
def filled_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    """Give a Hub with a model and its records, a dataset with rows, annotations and settings, and one with sound."""
    root = tmp_path_factory.mktemp("pushed")
    model = save_tiny_model(root / "model")
    write_records(model, [], {"clip": ClipHashes("1")}, None)
    _write_dataset(root / "data")
    _write_sound(root / "sound")
    with LocalHub() as hub, pytest.MonkeyPatch.context() as patch:
        take_for_the_hub(hub.url, patch, root / "cache")
        _push(hub, MODEL, model, "model")
        _push(hub, DATA, root / "data", "dataset")
        _push(hub, SOUND, root / "sound", "dataset")
        yield hub


def _write_dataset(folder: Path) -> None:
    row = {"clip_id": "song", "question": QUESTION, "answer": "jazz", "question_type": "genre", "source": "own",
           "start_s": 0.0, "end_s": 10.0}  # fmt: skip
    rows = datasets.Dataset.from_dict({name: [value] for name, value in row.items()})
    (folder / "short").mkdir(parents=True)
    rows.to_parquet(folder / "short" / "train-00000.parquet")
    (folder / "features").mkdir()
    (folder / "features" / "settings.json").write_text('{"feature_shape": [2, 2]}')
    (folder / "clips.csv").write_text("a,b\n")
    (folder / "README.md").write_text(CARD)


def _write_sound(folder: Path) -> None:
    folder.mkdir()
    sound = {"bytes": write_song(folder / "song.wav", 12.0).read_bytes(), "path": "song.wav"}
    (folder / "song.wav").unlink()
    rows = datasets.Dataset.from_dict({"clip_id": ["song"], "audio": [sound]})
    rows.cast_column("audio", datasets.Audio(decode=False)).to_parquet(folder / "train-00000.parquet")


def _push(hub: LocalHub, repo_id: str, folder: Path, kind: str) -> None:
    hub.api().create_repo(repo_id, repo_type=kind)
    hub.api().upload_folder(repo_id=repo_id, folder_path=folder, repo_type=kind)


@pytest.fixture
def hub(filled_hub: LocalHub, waits: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    """Give the filled Hub without faults, and empty caches."""
    filled_hub.faults.clear()
    take_for_the_hub(filled_hub.url, monkeypatch, tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", filled_hub.url)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    write_song(tmp_path / "song.wav", 10.0)
    return filled_hub


def ask(folder: Path) -> None:
    _succeed(cli.main(["ask", MODEL, str(folder / "song.wav"), "-q", QUESTION]))


def make_features(folder: Path) -> None:
    (folder / "songs").mkdir(exist_ok=True)
    write_song(folder / "songs" / "song.wav", 10.0)
    _succeed(cli.main(["features", str(folder / "songs"), "--model", MODEL, "--features", str(folder / "features")]))


def find_sound(folder: Path) -> None:
    row = Row("song", None, "jazz", None, "own", 0.0, 10.0, None, None)
    assert find_hub_clips([row], SOUND)


def read_what_was_trained_on(folder: Path) -> None:
    assert read_records(MODEL)[1] == {"clip": ClipHashes("1")}


def locate_annotations(folder: Path) -> None:
    assert locate(DATA, [".csv"])[0].read_text() == "a,b\n"


def load_published_rows(folder: Path) -> None:
    rows = load_corpus(DATA, ["short"]).rows("short", "train")
    assert [row.answer for row in rows] == ["jazz"]


def look_for_published_features(folder: Path) -> None:
    try:
        import_features(DATA, folder / "features", {"feature_shape": [3, 3]})
    except ValueError as error:
        if "with features of other settings than the model's" not in str(error):
            raise


def start_training(folder: Path) -> None:
    model, _ = load_start(MODEL)
    assert torch.equal(model.lm_head.weight, build_tiny_model()[0].lm_head.weight)


CALLERS = [
    ask, make_features, find_sound, read_what_was_trained_on, locate_annotations, load_published_rows,
    look_for_published_features, start_training,
]  # fmt: skip


class Refused(ValueError):
    """A command ended with status 2."""


def _succeed(status: int) -> None:
    if status == 2:
        raise Refused
    assert status == 0


@pytest.mark.parametrize("kind", ["503", "reset", "short"])
@pytest.mark.parametrize("caller", CALLERS)
def test_faults_that_pass_are_waited_out(hub: LocalHub, caller: Callable, kind: str, tmp_path: Path) -> None:
    hub.fail(kind, times=2)
    caller(tmp_path)
    assert not hub.faults[0].times


BODIES = r"GET .*/resolve/.*\.(parquet|safetensors|csv|gz)"


@pytest.mark.parametrize("caller", [caller for caller in CALLERS if caller is not look_for_published_features])
def test_bodies_changed_on_their_way_are_fetched_again(hub: LocalHub, caller: Callable, tmp_path: Path) -> None:
    hub.fail("corrupt", BODIES)
    caller(tmp_path)
    assert not hub.faults[0].times


@pytest.mark.parametrize("caller", [caller for caller in CALLERS if caller is not look_for_published_features])
def test_bodies_that_are_always_changed_are_refused(hub: LocalHub, caller: Callable, tmp_path: Path, capsys) -> None:
    hub.fail("corrupt", BODIES, times=99)
    with pytest.raises(ValueError) as raised:
        caller(tmp_path)
    said = capsys.readouterr().err if raised.type is Refused else str(raised.value)
    assert "arrived damaged twice" in said


def test_published_features_are_those_that_were_stored(hub: LocalHub, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "store", {"feature_shape": [4, 5]})
    store.write("clip", np.arange(20, dtype=np.float32).reshape(4, 5), "sound")
    write_features(tmp_path / "built", store, ["clip"])
    write_dataset_card(tmp_path / "built", DatasetFacts("Songs", "Some songs.", "cc0-1.0", [], "python make.py", "1"))
    _push(hub, "tester/features", tmp_path / "built", "dataset")
    hub.fail("corrupt", BODIES)
    fetched = import_features("tester/features", tmp_path / "fetched", store.settings)
    assert not hub.faults[0].times and fetched.read_record("clip") == store.read_record("clip")


def test_rows_that_were_loaded_before_need_no_network(hub: LocalHub, tmp_path: Path, monkeypatch) -> None:
    load_published_rows(tmp_path)
    find_sound(tmp_path)
    for module in (huggingface_hub.constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)
    load_published_rows(tmp_path)
    find_sound(tmp_path)


SILENT = pytest.param("silent", marks=pytest.mark.reliability)


@pytest.mark.parametrize("kind", ["503", "reset", SILENT, "short", "loop", "html", "401"])
@pytest.mark.parametrize("caller", CALLERS)
def test_faults_that_stay_are_one_sentence(
    hub: LocalHub, caller: Callable, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    expect_silence(monkeypatch, kind)
    hub.fail(kind, times=999)
    with pytest.raises(ValueError) as raised:
        caller(tmp_path)
    lines = (capsys.readouterr().err if raised.type is Refused else str(raised.value)).strip().splitlines()
    ended = [line for line in lines if "trying again" not in line]
    said = [line for line in ended if "Hub" in line or "HF_" in line or hub.url in line]
    assert len(said) == 1 and "Traceback" not in said[0]
    if kind == "401":
        assert "`hf auth login`" in said[0] and "not found" not in said[0]


def fetch_address(hub: LocalHub) -> str:
    (path,) = locate(f"{hub.url}/datasets/{DATA}/resolve/main/clips.csv?download=true", [".csv"])
    assert path.suffix == ".csv"
    return path.read_text()


@pytest.mark.parametrize("kind", ["503", "429", "reset", "short", "silent", "stalled"])
def test_an_address_is_fetched_patiently(hub: LocalHub, kind: str, monkeypatch) -> None:
    expect_silence(monkeypatch, kind)
    hub.fail(kind, times=2)
    assert fetch_address(hub) == "a,b\n"


@pytest.mark.parametrize("kind", ["503", "reset", "short", "silent", "loop", "404", "401"])
def test_an_address_out_of_reach_is_one_sentence_or_the_copy_of_an_earlier_day(
    hub: LocalHub, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_silence(monkeypatch, kind)
    hub.fail(kind, times=99)
    with pytest.raises(ValueError, match="clips.csv.* cannot be fetched: ") as raised:
        fetch_address(hub)
    assert "\n" not in str(raised.value)
    hub.faults.clear()
    assert fetch_address(hub) == "a,b\n"
    hub.fail(kind, times=99)
    assert fetch_address(hub) == "a,b\n"
