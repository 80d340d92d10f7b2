"""A folder in, files out: kills, failures, lists, tables, files beside the songs, and whether the model listened."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up import GENRES, choice, describe, split

from descant.collections import describing
from descant.collections.describing import Job, describe_songs, judge_dependence
from descant.data.audio import AudioError
from descant.files import JobLog, hold_lock

SETTINGS = {"weights": "w", "hear": 12}


class Model:
    """Describes by name: a song that is called bad cannot be read."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def load(self) -> Callable[[str], dict[str, Any]]:
        return self.describe

    def describe(self, song: str) -> dict[str, Any]:
        self.asked.append(song)
        if "bad" in song:
            raise AudioError(song, "cannot be read as sound")
        if "odd" in song:
            raise RuntimeError("no such thing")
        return describe(song)


class Killed(BaseException):
    """Ends a process as a kill does: nothing is caught or cleared up."""


def refuse() -> Callable[[str], dict[str, Any]]:
    raise AssertionError("the model was loaded though nothing is missing")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def make_songs(folder: Path, *names: str) -> list[str]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"sound")
    return [str(folder / name) for name in names]


def test_failures_are_kept_apart_and_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job, model = Job(tmp_path / "d.jsonl", SETTINGS), Model()
    outcome = describe_songs(["a", "bad", "odd", "b"], model.load, job)
    assert (outcome.described, outcome.known, list(outcome.failed)) == (2, 0, ["bad", "odd"])
    assert [one["audio"] for one in read(job.output)] == ["a", "b"]
    assert {one["audio"]: one["error"] for one in read(job.failed)} == {
        "bad": "bad: cannot be read as sound", "odd": "RuntimeError: no such thing",
    }  # fmt: skip
    assert "odd: RuntimeError" in capsys.readouterr().err
    model.asked.clear()
    outcome = describe_songs(["b", "a", "c"], model.load, job)
    assert model.asked == ["c"] and outcome.known == 2 and not job.failed.exists()
    assert [one["audio"] for one in read(job.output)] == ["b", "a", "c"]
    assert describe_songs(["a"], refuse, job).known == 1


def test_a_song_that_has_changed_is_described_again(tmp_path: Path) -> None:
    songs, model = make_songs(tmp_path / "music", "a.mp3", "b.mp3", "c.mp3"), Model()
    job = Job(tmp_path / "d.jsonl", SETTINGS)
    describe_songs(songs, model.load, job)
    model.asked.clear()
    Path(songs[1]).write_bytes(b"another sound")
    Path(songs[2]).unlink()  # which says nothing against what is known of it
    outcome = describe_songs(songs, model.load, job)
    assert model.asked == [songs[1]] and (outcome.described, outcome.known) == (1, 2)
    assert [one["audio"] for one in read(job.output)] == songs


def test_after_a_kill_nothing_is_described_twice(tmp_path: Path) -> None:
    songs, job, asked = [f"s{number}" for number in range(9)], Job(tmp_path / "d.csv", SETTINGS), []

    def run(fatal: int) -> None:
        model = Model()

        def dying(song: str) -> dict[str, Any]:
            if len(model.asked) == fatal:
                raise Killed
            return model.describe(song)

        try:
            describe_songs(songs, lambda: dying, job)
        finally:
            asked.extend(model.asked)

    for fatal in (3, 2):
        with pytest.raises(Killed):
            run(fatal)
    part = tmp_path / "d.jsonl.part-0"
    part.write_bytes(part.read_bytes()[:-5])  # the line that the kill tore
    run(99)
    assert sorted(asked) == sorted([*songs, "s4"]) and [one["audio"] for one in read(job.log)] == songs
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.csv", "d.jsonl"]


def test_other_settings_and_a_second_run_are_refused(tmp_path: Path) -> None:
    job = Job(tmp_path / "d.jsonl", SETTINGS)
    describe_songs(["a"], Model().load, job)
    with pytest.raises(ValueError, match="another model or other settings"):
        describe_songs(["a"], refuse, Job(job.output, SETTINGS | {"hear": 3}))
    (tmp_path / "other.jsonl").write_text('{"question": "?"}\n')
    with pytest.raises(ValueError, match="a line is no description"):
        describe_songs(["a"], refuse, Job(tmp_path / "other.jsonl", SETTINGS))

    def meddling(song: str) -> dict[str, Any]:
        with pytest.raises(ValueError, match="another run writes here"):
            JobLog(job.log, "audio", bool, "description").read()
        return describe(song)

    describe_songs(["a", "b"], lambda: meddling, job)
    with hold_lock(tmp_path / "d.jsonl.part-0"), pytest.raises(ValueError, match="another run writes here"):
        describe_songs(["c"], refuse, job)


def test_a_table_is_written_beside_the_log(tmp_path: Path) -> None:
    describe_songs(["=a", "b"], Model().load, Job(tmp_path / "d.csv", SETTINGS, style="tags"))
    rows = list(csv.DictReader((tmp_path / "d.csv").open()))
    assert [row["audio"] for row in rows] == ["./=a", "b"] and rows[1]["genre"] == "jazz"
    assert rows[1]["caption"].startswith("jazz, calm") and read(tmp_path / "d.jsonl")[1]["text"] == rows[1]["caption"]
    parquet = pytest.importorskip("pyarrow.parquet")
    describe_songs([os.fsdecode(b"caf\xe9"), "b"], Model().load, Job(tmp_path / "p.parquet", SETTINGS))
    table = parquet.read_table(tmp_path / "p.parquet").to_pylist()
    assert [row["audio"] for row in table] == ["caf?", "b"] and table[1]["bpm"] == 92.0


def test_files_beside_songs_hold_what_is_sure_and_replace_nobody_elses(tmp_path: Path) -> None:
    one, two, twin = make_songs(tmp_path / "music", "one.mp3", "two.mp3", "one.flac")
    (tmp_path / "music" / "two.json").write_text("mine")
    kinds = frozenset({"caption", "json"})
    job = Job(tmp_path / "d.jsonl", SETTINGS, "short", kinds)
    assert describe_songs([one, two, twin], Model().load, job).left_alone == 3  # two.json, and both files of the twin
    assert (tmp_path / "music" / "two.json").read_text() == "mine"
    assert json.loads((tmp_path / "music" / "one.json").read_text()) == {
        "caption": "Calm slow jazz with piano and bass, no singing, in 4/4, 92 BPM, C sharp minor.", "bpm": 92,
        "keyscale": "C# minor", "timesignature": "4/4", "genre": "jazz", "instruments": ["piano", "bass"],
        "mood": "calm",
    }  # fmt: skip
    (tmp_path / "music" / "one.caption.txt").write_text("edited")
    (tmp_path / "music" / "two.caption.txt").unlink()
    tags = Job(tmp_path / "d.jsonl", SETTINGS, "tags", kinds)
    assert describe_songs([one, two], refuse, tags).left_alone == 2  # what was edited, and what was there
    assert (tmp_path / "music" / "one.caption.txt").read_text() == "edited"
    assert (tmp_path / "music" / "two.caption.txt").read_text().startswith("jazz, calm, slow")
    over = Job(tmp_path / "d.jsonl", SETTINGS, "tags", kinds, overwrite=True)
    assert describe_songs([one, two], refuse, over).left_alone == 0
    assert json.loads((tmp_path / "music" / "two.json").read_text())["genre"] == "jazz"


def test_songs_without_music_get_no_files(tmp_path: Path) -> None:
    (song,) = make_songs(tmp_path / "music", "quiet.wav")
    job = Job(tmp_path / "d.jsonl", SETTINGS, "short", frozenset({"caption"}))
    describe_songs([song], lambda: lambda name: describe(name, caption=None), job)
    assert [path.name for path in (tmp_path / "music").iterdir()] == ["quiet.wav"]


def test_a_model_that_calls_everything_electronic_is_named() -> None:
    deaf = [describe(str(number), "electronic", 0.9) for number in range(23)]
    deaf += [describe(str(number), "jazz", 0.5) for number in range(2)]
    for one in deaf[23:]:
        one["decisions"]["genre"] = choice({**split(GENRES, "jazz", 0.46), "electronic": 0.45})
    said = judge_dependence(deaf)
    assert said.startswith("The answers hardly depend on the audio of this folder: 23 of 25 songs are called electr")


def test_a_model_that_listens_is_named_too() -> None:
    heard = [describe(str(number), GENRES[number % 4], mood=("sad", "calm")[number % 2]) for number in range(20)]
    for number, one in enumerate(heard):
        tempo = ("slow", "medium", "fast")[number % 3]
        one["decisions"]["tempo_class"] = choice(split(("slow", "medium", "fast"), tempo, 0.9))
        one["decisions"] |= dict.fromkeys(("energy", "metre", "voice", "electronic"), one["decisions"]["genre"])
    said = judge_dependence(heard)
    assert said.startswith("The answers depend on the audio of this folder: the genre named for a song has")
    assert "90 % by its own sound, 22 % by another song's" in said
    assert judge_dependence(heard[:4]) is None


def test_answers_without_reason_are_all_that_count() -> None:
    silent = [describe(str(number)) for number in range(9)]
    for one in silent:
        for name in describing.CHOSEN:
            one["decisions"][name]["reason"] = "silence"
    assert judge_dependence(silent) is None
