"""What --dataset may name: one's own file, its splits and configurations, and refusals."""

import csv
from pathlib import Path

import pytest

from descant.data.annotations import Row
from descant.data.corpus import in_config, limit_clips, load_corpus
from descant.data.splits import LeakError


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


def write_windows(path: Path, header: str, lines: list[str]) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([header, *lines]) + "\n")
    return str(path)


@pytest.mark.parametrize("clip_id", ["", "{0}th-{1}"])
def test_windows_of_one_file_fall_together_wherever_the_table_lies(tmp_path, clip_id):
    lines = [
        f"My song {song}.wav,a song,{clip_id.format(song, start)},{start},{start + 10}"
        for song in range(60)
        for start in range(0, 100, 10)
    ]
    header = "audio,caption,clip_id,start_s,end_s"
    tables = [write_windows(tmp_path / name / "own.csv", header, lines) for name in "ab"]
    one, two = (load_corpus(table, ["captions"]) for table in tables)
    songs = {split: {row.audio for row in one.rows("captions", split)} for split in ("train", "validation")}
    assert songs["validation"] and not songs["train"] & songs["validation"]
    held_out = [[row.clip_id for row in corpus.rows("captions", "validation")] for corpus in (one, two)]
    assert held_out[0] == held_out[1]


def test_own_file_in_two_splits_is_refused(tmp_path):
    lines = ["b.wav,a song,0,10,train", "sub/../a.wav,a song,0,10,train", "a.wav,a song,20,30,test"]
    table = write_windows(tmp_path / "own.csv", "audio,caption,start_s,end_s,split", lines)
    leak = r"1 times the same recording stands in two splits: \[a\]-\[0-10\] in train, \[a\]-\[20-30\] in test"
    with pytest.raises(LeakError, match=leak):
        load_corpus(table, ["captions"])


def test_a_configuration_without_rows_is_refused_by_name(own_file):
    with pytest.raises(ValueError, match="no captions"):
        load_corpus(str(own_file), ["captions"])


def test_a_dataset_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        load_corpus(str(tmp_path / "nowhere"), ["short"])


def test_a_musiccaps_table_is_a_dataset_with_its_published_splits(tmp_path):
    header = "ytid,start_s,end_s,aspect_list,caption,is_audioset_eval"
    lines = [f"y{number},0,10,['pop'],a song,{number % 2 == 0}" for number in range(100)]
    corpus = load_corpus(write_windows(tmp_path / "caps.csv", header, lines), ["captions"])
    sizes = {split: len(corpus.rows("captions", split)) for split in ("train", "validation", "test")}
    assert sizes["test"] == 50 and sizes["train"] + sizes["validation"] == 50 and sizes["validation"] > 0


def test_problems_are_named_before_a_table_is_refused(tmp_path, caplog):
    path = tmp_path / "own.jsonl"
    path.write_text('{"audio": "a.wav", "quest\n{"audio": "b.wav", "question": "q", "answer": 5}\n')
    with pytest.raises(ValueError, match="no rows for 'short'"):
        load_corpus(str(path), ["short"])
    assert "own.jsonl:1: broken JSON" in caplog.text and "own.jsonl:2: b.wav: answer is int" in caplog.text


def test_problems_are_named_before_a_leak_is_refused(tmp_path, caplog):
    lines = ["a.wav,a song,0,10,train", "a.wav,a song,20,30,test", "b.wav,,0,10,test"]
    table = write_windows(tmp_path / "own.csv", "audio,caption,start_s,end_s,split", lines)
    with pytest.raises(LeakError):
        load_corpus(table, ["captions"])
    assert "own.csv:4: b.wav: caption is empty" in caplog.text


def test_a_folder_of_other_columns_is_named_as_such(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: short\n  data_files: train.csv\nlicense: mit\n---\n"
    )
    (folder / "train.csv").write_text("text,label\na,b\n")
    with pytest.raises(ValueError, match="has the columns text, label, not those that descant's builders write"):
        load_corpus(str(folder), ["short"])


def test_a_fault_of_the_reader_is_not_called_a_missing_file(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise AttributeError("a bug")

    monkeypatch.setattr("datasets.load_dataset", fail)
    with pytest.raises(AttributeError, match="a bug"):
        load_corpus(str(tmp_path), ["short"])


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
