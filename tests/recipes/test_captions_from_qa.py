"""recipes/captions_from_qa.py, as it is launched: stamps, bad files, kills, several processes."""

import csv
import io
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from forked_python import ForkedPython, start_ranks
from tiny import save_tiny_model, write_song

from descant.answering.answers import Answer
from descant.answering.collection import caption_collection, format_captions
from descant.answering.listener import Asking
from descant.models.lp_music_caps.packed_bart_lp_music_caps import has_bfloat16
from descant.program import run_program

RECIPE = Path(__file__).parents[2] / "recipes" / "captions_from_qa.py"
QUESTIONS = ("Which genre?", "Which mood?")
CONFIG = RECIPE.parents[1] / "accelerate_configs" / "cpu_2_processes.yaml"
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIG)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Two songs, a padded waveform, and two files that cannot be read."""
    songs = tmp_path / "songs"
    (songs / "b").mkdir(parents=True)
    write_song(songs / "a.wav", 12.0)
    write_song(songs / "b" / "c.flac", 21.0, 16_000, 200.0)
    np.save(songs / "[x]-[0-10].npy", np.pad(np.sin(np.arange(160_000) / 9).astype(np.float32), (0, 320_000)))
    (songs / "d.mp3").write_text("no music")
    (songs / "e.ogg").touch()
    return songs


def run(folder: Path, audio: Path, output: Path, *options: str, questions: tuple[str, ...] = QUESTIONS) -> int:
    arguments = ["--checkpoint", folder, "--audio", audio, "--output", output, *options]
    return run_program("captions_from_qa", lambda: caption_collection(questions, 2, list(map(str, arguments))))


def run_whole(folder: Path, audio: Path, output: Path) -> int:
    """The recipe's questions, in this process."""
    return run(folder, audio, output, questions=runpy.run_path(str(RECIPE))["QUESTIONS"])


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def keys(records: list[dict[str, object]]) -> list[tuple[object, ...]]:
    return [tuple(one[name] for name in ("id", "audio", "start_s", "end_s", "question", "prediction", "error"))
            for one in records]  # fmt: skip


def test_every_window_is_captioned_and_bad_files_are_named(
    folder: Path, collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, collection, tmp_path / "captions.csv") == 1
    shown = capsys.readouterr()
    assert "d.mp3: is not sound" in shown.err and "e.ogg: is empty" in shown.err and shown.out == ""
    records = read(tmp_path / "captions.jsonl")
    windows = [("[x]-[0-10].npy", 0.0, 10.0), ("a.wav", 0.0, 10.0), ("a.wav", 10.0, 12.0), ("b/c.flac", 0.0, 10.0),
               ("b/c.flac", 10.0, 20.0), ("b/c.flac", 20.0, 21.0)]  # fmt: skip
    answered = [one for one in records if one["error"] is None]
    assert [(one["audio"], one["start_s"], one["end_s"], one["question"]) for one in answered] == [
        (*window, question) for window in windows for question in QUESTIONS
    ]
    assert [one["audio"] for one in records if one["error"]] == ["d.mp3", "e.ogg"]
    rows = list(csv.DictReader((tmp_path / "captions.csv").open()))
    assert [row["audio_path"] for row in rows] == ["[x]-[0-10].npy", "a.wav", "b/c.flac"]
    a = [one["prediction"] for one in answered if one["audio"] == "a.wav"]
    assert rows[1]["caption"] == " ".join(f"[0:00–0:10] {a[0]} {a[1]} [0:10–0:12] {a[2]} {a[3]}".split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captions.csv", "captions.jsonl", "songs"]


def test_a_second_run_asks_nothing_again_but_tries_bad_files(
    folder: Path, collection: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert run(folder, collection, tmp_path / "answers.jsonl") == 1
    first = (tmp_path / "answers.jsonl").read_bytes()
    assert run(folder, collection, tmp_path / "answers.jsonl") == 1
    assert (tmp_path / "answers.jsonl").read_bytes() == first and "12 answers (0 new), 2 skipped" in caplog.text
    (collection / "e.ogg").unlink()
    write_song(collection / "d.mp3", 3.0)
    assert run(folder, collection, tmp_path / "answers.jsonl") == 0
    assert "14 answers (2 new), 0 skipped" in caplog.text
    assert not any(one["error"] for one in read(tmp_path / "answers.jsonl"))


def test_answers_of_another_job_are_not_mixed_in(
    folder: Path, collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "answers.jsonl"
    run(folder, collection, output)
    before = output.read_bytes()
    assert run(folder, collection, output, "--max_length", "5") == 2
    assert run(folder, collection, output, "--questions", "Why?") == 2
    assert run(Path(shutil.copytree(folder, tmp_path / "copy")), collection, output) == 2
    assert output.read_bytes() == before and "give another --output" in capsys.readouterr().err


@pytest.mark.parametrize("option", [
    ("--output", "captions.txt"), ("--precision", "fp8"), ("--nonsense",), ("--num_beams", "0"), ("--batch_size", "x"),
    ("--top_p", "1.5"), ("--seed", "3"), ("--top_p", "0.9", "--num_beams", "2"),
    ("--questions", " "), ("--questions", "caf\udce9?"), ("--audio", ""),
])  # fmt: skip
def test_wrong_options_are_usage_errors(folder: Path, collection: Path, tmp_path: Path, option: tuple[str]) -> None:
    assert run(folder, collection, tmp_path / "captions.csv", *option) == 2


def test_what_cannot_be_asked_is_refused(
    folder: Path, collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, collection, tmp_path / "captions.csv") == 2
    assert run(folder, tmp_path / "absent", tmp_path / "captions.csv") == 2
    shown = capsys.readouterr().err
    assert "no config.json" in shown and "no such folder of recordings" in shown


def test_sampling_and_precision_are_recorded_with_the_answers(
    folder: Path, collection: Path, tmp_path: Path
) -> None:
    options = ("--top_p", "0.9", "--seed", "3", "--precision", "int8")
    assert run(folder, collection, tmp_path / "one.jsonl", *options) == 1
    assert run(folder, collection, tmp_path / "two.jsonl", *options) == 1
    generation = read(tmp_path / "one.jsonl")[0]["generation"]
    assert generation | {"do_sample": True, "top_p": 0.9, "top_k": 0, "seed": 3, "tier": "int8"} == generation
    assert keys(read(tmp_path / "one.jsonl")) == keys(read(tmp_path / "two.jsonl"))


def test_bf16_is_refused_where_the_processor_lacks_it(
    folder: Path, collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run(folder, collection, tmp_path / "one.jsonl", "--precision", "bf16")
    assert status == (1 if has_bfloat16() else 2)
    assert ("tier 'bf16' needs" in capsys.readouterr().err) != has_bfloat16()


def test_answers_of_a_checkpoint_that_was_trained_on_are_not_kept(
    folder: Path, collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    assert run(own, collection, tmp_path / "answers.jsonl") == 1
    save_tiny_model(own, seed=1)
    assert run(own, collection, tmp_path / "answers.jsonl") == 2
    assert "another model or other settings" in capsys.readouterr().err


def test_a_file_name_that_is_no_text_costs_nothing(folder: Path, tmp_path: Path) -> None:
    songs = tmp_path / "songs"
    songs.mkdir()
    write_song(songs / "a.wav", 12.0)
    write_song(songs / "b.wav", 12.0).rename(songs / "caf\udce9.wav")
    for _ in range(2):  # the second run reads what the first has written
        assert run(folder, songs, tmp_path / "captions.csv") == 0
    rows = (tmp_path / "captions.csv").read_bytes().splitlines()
    assert [row.split(b",")[0] for row in rows] == [b"audio_path", b"a.wav", b"caf\xe9.wav"]
    assert len((tmp_path / "captions.jsonl").read_bytes().splitlines()) == 2 * 2 * len(QUESTIONS)


class Meddling(Asking):
    """Asks, and has somebody meddle with the output after the first answer."""

    meddle: Callable[[], None]

    def __iter__(self) -> Iterator:
        for number, numbered in enumerate(super().__iter__()):
            if number == 1:
                self.meddle()
            yield numbered


@pytest.mark.parametrize("case", ["folder removed", "log and part replaced"])
def test_answers_that_were_taken_away_meanwhile_are_missed(
    case: str, folder: Path, collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = tmp_path / "out" / "captions.csv"

    def meddle() -> None:
        if case == "folder removed":
            shutil.rmtree(output.parent)
        else:
            output.with_suffix(".jsonl").write_text("")
            output.with_name("captions.jsonl.part-0").unlink()

    monkeypatch.setattr(Meddling, "meddle", staticmethod(meddle), raising=False)
    monkeypatch.setattr("descant.answering.collection.Asking", Meddling)
    assert run(folder, collection, output) == 1
    expected = "captions.jsonl.part-0: no such file" if case == "folder removed" else "1 of 14 answers are gone"
    assert expected in capsys.readouterr().err and not output.exists()
    monkeypatch.undo()
    assert run(folder, collection, output) == 1 and output.exists()


def test_silence_is_named_and_has_no_caption(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    songs = tmp_path / "songs"
    songs.mkdir()
    sound = np.sin(np.arange(8_000 * 30) / 9) * 0.5
    sound[8_000 * 10 : 8_000 * 20] = 0
    soundfile.write(songs / "pause.wav", sound, 8_000)
    soundfile.write(songs / "silence.wav", np.zeros(80_000), 8_000)
    assert run(folder, songs, tmp_path / "captions.csv") == 1
    shown = capsys.readouterr().err
    assert "pause.wav: 0:10–0:20: is silent" in shown and "silence.wav: is silent" in shown
    rows = (tmp_path / "captions.csv").read_text().splitlines()
    assert len(rows) == 2 and "[0:00–0:10]" in rows[1] and "[0:20–0:30]" in rows[1] and "0:10–0:20]" not in rows[1]
    answers = read(tmp_path / "captions.jsonl")
    assert len(answers) == 2 * len(QUESTIONS) + 2 and len([one for one in answers if one["error"]]) == 2


def test_no_path_is_a_formula_of_a_spreadsheet() -> None:
    names = ["=1+1.wav", "+a.wav", "-a.wav", "@a.wav", "\ta.wav", "a=.wav"]
    record = {"start_s": 0.0, "end_s": 10.0, "prediction": "=1", "error": None}
    rows = list(csv.reader(io.StringIO(format_captions({**record, "audio": name} for name in names))))[1:]
    assert [row[0] for row in rows] == [*(f"./{name}" for name in names[:5]), "a=.wav"]
    assert all(row[1] == "[0:00–0:10] =1" for row in rows)


def recipe(folder: Path, audio: Path, output: Path) -> list[str]:
    line = [str(RECIPE), "--checkpoint", str(folder), "--audio", str(audio), "--output", str(output)]
    return [*line, "--num_beams", "2", "--batch_size", "5"]


def test_two_processes_write_the_answers_of_one(folder: Path, collection: Path, tmp_path: Path) -> None:
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [*LAUNCH, *recipe(folder, collection, tmp_path / "two.csv")]
    two = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run_whole(folder, collection, tmp_path / "one.csv") == 1
    _, two_error = two.communicate(timeout=600)
    assert two.returncode == 1, two_error
    assert keys(read(tmp_path / "two.jsonl")) == keys(read(tmp_path / "one.jsonl"))
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert two_error.count("d.mp3: is not sound") == 1 and "30 answers (30 new), 2 skipped" in two_error


@pytest.fixture
def long_songs(tmp_path: Path) -> Path:
    """Three songs of ten windows, 150 answers."""
    songs = tmp_path / "songs"
    songs.mkdir()
    for number in range(3):
        write_song(songs / f"{number}.wav", 100.0, 8_000, 100.0 + number)
    return songs


# The recipe, of which each process writes forty answers and then waits: what is to be killed cannot have ended before.
STOPPING = """
import runpy, sys, time
from descant.answering.answers import Answer
written, to_record = [], Answer.to_record
def write(answer):
    written.append(answer)
    return to_record(answer) if len(written) <= 40 else time.sleep(600)
Answer.to_record = write
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def wait_for_answers(processes: list[ForkedPython], count: int, *parts: Path) -> None:
    while not all(part.exists() and part.read_bytes().count(b"\n") >= count for part in parts):
        assert all(process.poll() is None for process in processes), [process.said() for process in processes]
        time.sleep(0.02)


def test_two_killed_processes_are_gone_on_from_by_one(folder: Path, long_songs: Path, tmp_path: Path) -> None:
    parts = [tmp_path / f"captions.jsonl.part-{process}" for process in range(2)]
    two = start_ranks(2, "-c", STOPPING, *recipe(folder, long_songs, tmp_path / "captions.csv"))
    wait_for_answers(two, 5, *parts)
    for process in two:
        process.send_signal(signal.SIGKILL)
    assert [process.wait() for process in two] == [-signal.SIGKILL] * 2
    kept = sum(part.read_bytes().count(b"\n") for part in parts)
    assert run_whole(folder, long_songs, tmp_path / "captions.csv") == 0
    assert run_whole(folder, long_songs, tmp_path / "whole.csv") == 0
    assert 10 <= kept < 150 and not list(tmp_path.glob("*.part-*"))
    assert keys(read(tmp_path / "captions.jsonl")) == keys(read(tmp_path / "whole.jsonl"))


def test_a_run_keeps_others_out_and_after_a_kill_asks_nothing_twice(
    folder: Path, long_songs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    caplog.set_level("INFO")
    part = tmp_path / "captions.jsonl.part-0"
    process = ForkedPython("-c", STOPPING, *recipe(folder, long_songs, tmp_path / "captions.csv"))
    wait_for_answers([process], 1, part)
    process.send_signal(signal.SIGSTOP)  # or it might be over before the second begins
    before = part.read_bytes().count(b"\n")
    assert run_whole(folder, long_songs, tmp_path / "captions.csv") == 2
    assert "another run writes here" in capsys.readouterr().err
    process.send_signal(signal.SIGCONT)
    wait_for_answers([process], before + 12, part)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = part.read_bytes().count(b"\n")
    assert process.returncode == -signal.SIGKILL and 12 <= kept < 150
    assert not (tmp_path / "captions.csv").exists()
    written, to_record = [], Answer.to_record
    monkeypatch.setattr(Answer, "to_record", lambda answer: written.append(answer) or to_record(answer))
    assert run_whole(folder, long_songs, tmp_path / "captions.csv") == 0
    assert len(written) == 150 - kept and f"150 answers ({150 - kept} new), 0 skipped" in caplog.text
    assert run_whole(folder, long_songs, tmp_path / "whole.csv") == 0
    assert keys(read(tmp_path / "captions.jsonl")) == keys(read(tmp_path / "whole.jsonl"))
    assert (tmp_path / "captions.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
