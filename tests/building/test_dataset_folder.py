"""A dataset folder holds shards and a true card, and an interrupted build leaves the earlier one whole."""

from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from datasets import Dataset, get_dataset_config_names, load_dataset
from huggingface_hub import DatasetCard

from descant.building import dataset_folder
from descant.building.dataset_folder import (
    DatasetFacts,
    push_dataset,
    write_config,
    write_dataset_card,
    write_features,
    write_missing,
)
from descant.data.features import FeatureStore, import_features

FACTS = DatasetFacts("Songs", "Some songs.", "cc-by-sa-4.0", ["google/MusicCaps"], "python make.py", "0123abcd")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def rows(count: int) -> Dataset:
    return Dataset.from_dict({"clip_id": [f"clip{i // 2}" for i in range(count)], "answer": ["yes"] * count})


def filled_store(root: Path, count: int) -> FeatureStore:
    store = FeatureStore(root, {"feature_shape": [4, 5]})
    for number in range(count):
        store.write(f"clip{number}", np.full((4, 5), number, np.float32), f"sha{number}")
    return store


@pytest.fixture
def folder(tmp_path) -> Path:
    write_config(tmp_path / "out", "short", {"train": rows(10), "test": rows(4)})
    write_missing(tmp_path / "out", {"gone": "private", "bad": "unreadable: x.wav: is empty", "old": "private"})
    write_dataset_card(tmp_path / "out", FACTS)
    return tmp_path / "out"


def test_rows_come_back_by_configuration_and_split(folder):
    splits = load_dataset(str(folder), "short")
    assert {name: len(part) for name, part in splits.items()} == {"train": 10, "test": 4}


def test_large_split_is_cut_into_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_folder, "SHARD_ROWS", 4)
    write_config(tmp_path / "out", "short", {"train": rows(10)})
    write_dataset_card(tmp_path / "out", FACTS)
    names = sorted(path.name for path in (tmp_path / "out/short").iterdir())
    assert names == [f"train-{number:05d}-of-00003.parquet" for number in range(3)]
    assert load_dataset(str(tmp_path / "out"), "short")["train"][:] == rows(10)[:]


def test_card_says_licence_counts_missing_clips_and_how_to_build(folder):
    card = DatasetCard.load(folder / "README.md")
    assert (card.data.license, card.data.revision) == ("cc-by-sa-4.0", "0123abcd")
    assert [entry["config_name"] for entry in card.data.configs] == ["short"]
    assert "| short | train | 10 | 5 |" in card.text and "python make.py" in card.text
    assert "3 (2 private, 1 unreadable)" in card.text and "datasets/google/MusicCaps" in card.text


def test_build_without_sound_says_that_none_was_looked_for(folder):
    write_missing(folder, None)
    write_dataset_card(folder, FACTS)
    assert "Sound was not looked for" in (folder / "README.md").read_text()


def test_smaller_build_leaves_no_shard_of_the_larger(folder, monkeypatch):
    monkeypatch.setattr(dataset_folder, "SHARD_ROWS", 3)
    write_config(folder, "short", {"train": rows(10)})
    monkeypatch.undo()
    write_config(folder, "short", {"train": rows(2)})
    assert [path.name for path in (folder / "short").iterdir()] == ["train-00000-of-00001.parquet"]


def test_failing_build_leaves_the_earlier_one_whole(folder):
    before = sorted(path.name for path in (folder / "short").iterdir())
    with pytest.raises(TypeError):
        write_config(folder, "short", {"train": rows(2), "test": None})
    assert sorted(path.name for path in (folder / "short").iterdir()) == before
    write_dataset_card(folder, FACTS)
    assert get_dataset_config_names(str(folder)) == ["short"]


def test_build_after_a_kill_takes_the_earlier_one_back_and_clears_up(folder):
    (folder / "short").rename(folder / ".1f.old.short")  # killed between the two renames
    (folder / ".2e.partial.short").mkdir()
    with pytest.raises(TypeError):
        write_config(folder, "short", {"train": None})
    assert {name: len(part) for name, part in load_dataset(str(folder), "short").items()} == {"train": 10, "test": 4}
    assert not list(folder.glob(".*.short"))


def test_earlier_build_is_there_until_the_new_one_is_whole(folder, monkeypatch):
    seen = []
    write_shard = Dataset.to_parquet

    def watch(rows, path):
        seen.append(len(list((folder / "short").glob("*.parquet"))))
        return write_shard(rows, path)

    monkeypatch.setattr(Dataset, "to_parquet", watch)
    write_config(folder, "short", {"train": rows(2)})
    assert seen == [2] and len(list((folder / "short").glob("*.parquet"))) == 1


@pytest.mark.parametrize(
    "write", [lambda folder: write_dataset_card(folder, FACTS), lambda folder: write_missing(folder, {})]
)
def test_card_and_missing_clips_are_written_whole_or_not_at_all(folder, write, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    def fail(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left on device: '.*(README.md|missing_clips.jsonl)'"):
        write(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_features_travel_as_the_stored_bytes(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_folder, "FEATURE_SHARD_CLIPS", 3)
    store = filled_store(tmp_path / "features", 7)
    write_features(folder, store, [f"clip{i}" for i in range(7)])
    write_dataset_card(folder, FACTS)
    assert len(list((folder / "features").glob("*.parquet"))) == 3
    shard = pyarrow.parquet.read_table(folder / "features/train-00000-of-00003.parquet")
    assert shard["record"][2].as_py() == store.read_record("clip2")
    assert import_features(str(folder), tmp_path / "imported").manifest() == store.manifest()


@pytest.mark.parametrize("lost", ["clip_id", "record", "audio_sha256"])
def test_features_that_a_stranger_made_are_checked(folder, tmp_path, lost):
    store = filled_store(tmp_path / "features", 1)
    write_features(folder, store, ["clip0"])
    write_dataset_card(folder, FACTS)
    (shard,) = (folder / "features").glob("*.parquet")
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(shard).drop_columns([lost]), shard)
    with pytest.raises(ValueError, match="without clip_id, record or audio_sha256"):
        import_features(str(folder), tmp_path / "imported")
    (folder / "features" / "settings.json").write_text('{"feature_shape": 5}')
    with pytest.raises(ValueError, match=r"settings\.json: no feature store"):
        import_features(str(folder), tmp_path / "imported")


def test_dataset_without_features_says_what_to_do(folder, tmp_path):
    with pytest.raises(ValueError, match="without features; make them with `descant features`"):
        import_features(str(folder), tmp_path / "imported")


def test_only_what_belongs_to_the_dataset_is_pushed(folder, local_hub):
    (folder / "song.flac").write_bytes(b"sound")
    (folder / "short/notes.txt").write_text("mine")
    address = push_dataset(folder, "songs", api=local_hub.api())
    assert "tester/songs" in address
    shards = {f"short/{split}-00000-of-00001.parquet" for split in ("train", "test")}
    files = set(local_hub.files("tester/songs", "dataset")) - {".gitattributes"}
    assert files == {"README.md", "missing_clips.jsonl"} | shards


def test_a_link_out_of_the_folder_is_not_pushed(folder, local_hub, tmp_path):
    (tmp_path / "secret").write_bytes(b"PRIVATE KEY")
    (folder / "short" / "extra.parquet").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="extra.parquet is a link to a file outside of the folder"):
        push_dataset(folder, "tester/songs", api=local_hub.api())
    assert local_hub.store.repos == {}
