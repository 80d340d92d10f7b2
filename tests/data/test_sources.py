"""What --dataset may name: one's own file, its splits and configurations, and refusals."""

import csv
from pathlib import Path

import pytest

from descant.data.annotations import Row
from descant.data.sources import in_config, limit_clips, load_corpus


@pytest.fixture
def own_file(tmp_path) -> Path:
    path = tmp_path / "own.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["audio", "question", "answer"])
        writer.writerows([f"clip{number}.wav", "What is heard?", f"Tone {number}."] for number in range(200))
    return path


def test_an_own_file_serves_short_and_long_and_gets_a_validation_split_by_clip(own_file):
    corpus = load_corpus(str(own_file), ["short", "long"])
    assert corpus.rows("short", "train") == corpus.rows("long", "train")
    assert 2 <= len(corpus.rows("short", "validation")) <= 20
    assert corpus.audio["clip3"].name == str(own_file.parent / "clip3.wav")


def test_added_rows_move_no_clip_to_another_split(own_file):
    before = load_corpus(str(own_file), ["short"])
    with own_file.open("a") as file:
        file.write("another.wav,What is heard?,Another tone.\n")
    after = load_corpus(str(own_file), ["short"])
    assert set(before.rows("short", "validation")) <= set(after.rows("short", "validation"))


def test_a_configuration_without_rows_is_refused_by_name(own_file):
    with pytest.raises(ValueError, match="no captions"):
        load_corpus(str(own_file), ["captions"])


def test_a_dataset_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        load_corpus(str(tmp_path / "nowhere"), ["short"])


def test_limited_to_some_clips_of_each_split(own_file):
    corpus = limit_clips(load_corpus(str(own_file), ["short"]), 2)
    assert len(corpus.rows("short", "train")) == len(corpus.rows("short", "validation")) == 2
    assert len(corpus.audio) == 4


@pytest.mark.parametrize(
    ("question", "kind", "configs"),
    [
        ("What is heard?", "genre", {"short", "all"}),
        ("What is heard?", "long_use", {"long", "all"}),
        ("What is heard?", None, {"short", "long", "all"}),
        (None, None, {"captions"}),
    ],
)
def test_rows_belong_to_configurations_by_their_question_type(question, kind, configs):
    row = Row("clip", question, "Answer.", kind, "own", 0.0, 10.0)
    assert {config for config in ("short", "long", "all", "captions") if in_config(row, config)} == configs
