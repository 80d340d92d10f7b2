"""Rows that can be heard, and a clear word where none can."""

import pytest

from descant.data.annotations import Row
from descant.training.features import keep_heard


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
