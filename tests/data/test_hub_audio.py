"""Clips come out of an audio column by their ids, without a codec library."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from datasets import Audio, Dataset

from descant.data.annotations import Row
from descant.data.hub_audio import find_hub_clips


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def row(clip_id: str, start_s: float = 0, end_s: float = 10) -> Row:
    return Row(clip_id, None, "a song", None, "musiccaps", start_s, end_s, "train")


def parquet(folder: Path, columns: dict) -> str:
    folder.mkdir()
    table = Dataset.from_dict(columns)
    table = table.cast_column("audio", Audio(decode=False)) if "audio" in columns else table
    table.to_parquet(folder / "train.parquet")
    return str(folder)


def cell(path: Path, seconds: float) -> dict:
    soundfile.write(path, 0.1 * np.random.default_rng(0).normal(size=round(seconds * 16_000)), 16_000)
    return {"bytes": path.read_bytes(), "path": path.name}


@pytest.mark.parametrize("ids", [{"ytid": ["abc"]}, {"fname": ["[abc]-[2-4]"]}, {"clip_id": ["[abc]-[2-4]"]}])
def test_clip_is_found_by_recording_or_clip_id(tmp_path, ids):
    dataset = parquet(tmp_path / "hub", ids | {"audio": [cell(tmp_path / "a.wav", 1)]})
    clips = find_hub_clips([row("[abc]-[2-4]", 2, 4), row("[xyz]-[0-10]")], dataset)
    assert list(clips) == ["[abc]-[2-4]"]
    assert len(clips["[abc]-[2-4]"].load(16_000, 10)[0]) == 16_000


def test_column_of_whole_recordings_is_cut(tmp_path):
    dataset = parquet(tmp_path / "hub", {"ytid": ["abc"], "audio": [cell(tmp_path / "a.wav", 6)]})
    clip = find_hub_clips([row("[abc]-[2-4]", 2, 4)], dataset)["[abc]-[2-4]"]
    samples, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    np.testing.assert_array_equal(clip.load(16_000, 10)[0], samples[32_000:64_000])


@pytest.mark.parametrize("columns", [{"ytid": ["a"]}, {"name": ["a"], "audio": [{"bytes": b"", "path": "a.wav"}]}])
def test_dataset_without_audio_or_ids_is_refused(tmp_path, columns):
    with pytest.raises(ValueError, match="needs an audio column and one of"):
        find_hub_clips([row("a")], parquet(tmp_path / "hub", columns))
