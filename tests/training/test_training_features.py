"""A run hears the files that its dataset names; rows that can be heard, and a clear word where none can."""

from pathlib import Path

import numpy as np
import pytest
from tiny import write_song

from descant.data.annotations import Row
from descant.data.feature_store import FeatureStore
from descant.data.sources import load_corpus
from descant.models.lp_music_caps import LPMusicCapsFeatureExtractor
from descant.training.features import keep_heard, prepare_features

EXTRACTOR = LPMusicCapsFeatureExtractor(window_s=1.0)


def prepare(table: Path, root: Path) -> FeatureStore:
    return prepare_features(load_corpus(str(table), ["captions"]), EXTRACTOR, str(root))


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
    assert "1 clips have no features and are left out, b first" in caplog.text


def test_no_training_row_left_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match="no clip of the training split has features in features: pass --audio_dir"):
        keep_heard(configs("a"), Store())
