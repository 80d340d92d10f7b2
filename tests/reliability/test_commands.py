"""Commands beside what goes wrong: disks, hostile names, odd sound, questions and models, adapters, interruptions.

One bad item never stops the others, every end is one sentence with its status, and nothing that a user gave reaches
the terminal with control characters.
"""

import csv
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from disks import fill, mount, small_disk
from safetensors.torch import load_file, save_file
from tiny import save_tiny_model, write_song
from tiny_subgenre import save_every_kind

from descant import cli
from descant.answering.collection import caption_collection
from descant.program import run_program

RECIPE = Path(__file__).parents[2] / "recipes" / "captions_from_qa.py"
GENRE = "What is the genre?"
# What a terminal obeys: an escape sequence, a C1 control, a mark that turns text around, a line of its own.
HOSTILE = "a\x1b]0;owned\x07\x9b31m\u202eb\nrm -rf.wav"
OBEYED = ("\x1b", "\x07", "\x9b", "\u202e", "\r", "\x7f")

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, an adapter of it, one that decides, and a classifier with the model as its captioner."""
    return save_every_kind(tmp_path_factory.mktemp("models"), GENRE)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One good song among files in which nothing can be heard, each for another reason."""
    folder = tmp_path_factory.mktemp("sounds")
    write_song(folder / "good.wav", 12.0, 16_000)
    soundfile.write(folder / "silent.wav", np.full(80_000, 1e-4), 16_000, subtype="FLOAT")
    soundfile.write(folder / "short.wav", np.full(1_600, 0.5), 16_000)
    huge = np.full(80_000, 0.1, np.float32)
    huge[40_000] = 3e38
    soundfile.write(folder / "huge.wav", huge, 16_000, subtype="FLOAT")
    huge[40_000] = np.nan
    soundfile.write(folder / "nan.wav", huge, 16_000, subtype="FLOAT")
    (folder / "text.wav").write_text("no music")
    return folder


BAD = ("huge.wav", "nan.wav", "short.wav", "silent.wav", "text.wav")
# Command → (its line for a folder of models and sound files, what it prints about a good file).
LINES: dict[str, Callable[[Path, list[str]], list[str]]] = {
    "ask": lambda models, files: ["ask", str(models / "model"), *files, "-q", GENRE],
    "ask an adapter": lambda models, files: ["ask", str(models / "adapter"), *files, "-q", GENRE],
    "decide": lambda models, files: [
        "decide", "--model", str(models / "decider"), *files, "--choice", "genre=jazz,rock"
    ],
    "describe": lambda models, files: ["describe", "--model", str(models / "decider"), *files],
    "classify": lambda models, files: ["classify", str(models / "subgenre"), *files],
    "classify by an adapter": lambda models, files: [
        "classify", str(models / "subgenre"), *files, "--captioner", str(models / "adapter")
    ],
}  # fmt: skip


@pytest.mark.parametrize("command", LINES)
def test_where_nothing_can_be_heard_it_is_named_and_the_rest_is_done(
    command: str, models: Path, sounds: Path, capsys: Capture
) -> None:
    files = [str(sounds / name) for name in (*BAD[:3], "good.wav", *BAD[3:])]
    status = cli.main([*LINES[command](models, files), "--json"])
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in shown.out.splitlines()]
    decides_silence = command in ("decide", "describe")  # their answers have a reason of their own there
    named = [name for name in BAD if f"{name}: " in shown.err] + ["silent.wav"] * decides_silence
    assert status == 1 and sorted(set(named)) == list(BAD), shown.err
    good = [line for line in lines if line["audio"].endswith("good.wav")]
    assert good and all(line.get("error") is None for line in good)
    if decides_silence:
        (silent,) = (line for line in lines if line["audio"].endswith("silent.wav"))
        answers = {**silent["decisions"], **silent["decisions"].pop("instruments", {})}
        answers.pop("instruments", None)
        assert {answer["reason"] for answer in answers.values()} == {"silence"}
    else:
        assert all(line["error"] for line in lines if not line["audio"].endswith("good.wav"))


def test_features_name_what_cannot_be_heard(sounds: Path, tmp_path: Path, capsys: Capture) -> None:
    assert cli.main(["features", str(sounds), "--features", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert all(f"{name}: " in shown.err for name in BAD) and "computed            1" in shown.out


def test_captions_name_what_cannot_be_heard(models: Path, sounds: Path, tmp_path: Path, capsys: Capture) -> None:
    assert caption(models / "model", sounds, tmp_path / "captions.csv") == 1
    shown = capsys.readouterr().err
    assert all(f"{name}: " in shown for name in BAD)
    rows = list(csv.reader((tmp_path / "captions.csv").open()))
    assert [row[0] for row in rows] == ["audio_path", "good.wav"]
    records = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    assert sorted(one["audio"] for one in records if one["error"]) == list(BAD)


def caption(model: Path, audio: Path, output: Path, *options: str) -> int:
    arguments = ["--checkpoint", str(model), "--audio", str(audio), "--output", str(output), "--num_beams", "1"]
    return run_program("captions_from_qa", lambda: caption_collection((GENRE,), 2, [*arguments, *options]))


# Hostile names and questions


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("command", LINES)
def test_no_name_steers_the_terminal(
    command: str, as_json: bool, models: Path, tmp_path: Path, capsys: Capture
) -> None:
    song = write_song(tmp_path / "song.wav", 3.0, 16_000).rename(tmp_path / HOSTILE)
    gone = tmp_path / f"gone{HOSTILE}"
    assert cli.main([*LINES[command](models, [str(song), str(gone)]), *(["--json"] * as_json)]) == 1
    shown = capsys.readouterr()
    assert not any(control in shown.out + shown.err for control in OBEYED)
    assert not any(line.startswith("rm -rf") for line in (shown.out + shown.err).splitlines())
    if as_json:
        assert json.loads(shown.out.splitlines()[0])["audio"] == str(song)


def test_no_question_steers_the_terminal(models: Path, sounds: Path, capsys: Capture) -> None:
    question = "What \x1b[31mgenre\u202e?\x9b"
    assert cli.main(["ask", str(models / "model"), str(sounds / "good.wav"), "-q", question]) == 0
    assert not any(control in capsys.readouterr().out for control in OBEYED)


def test_no_name_of_a_collection_or_a_table_steers_the_terminal(
    models: Path, tmp_path: Path, capsys: Capture
) -> None:
    songs = tmp_path / "songs"
    songs.mkdir()
    (songs / HOSTILE).write_text("no music")
    write_song(songs / "good.wav", 3.0, 16_000)
    assert caption(models / "model", songs, tmp_path / "captions.csv") == 1
    assert cli.main(["features", str(songs), "--features", str(tmp_path / "features")]) == 1
    (tmp_path / "answers.jsonl").write_text(json.dumps({"clip_id": HOSTILE, "error": HOSTILE}) + "\n")
    assert cli.main(["score", str(tmp_path / "answers.jsonl"), "--protocol", "musilingo"]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("owned") >= 3 and not any(control in shown.out + shown.err for control in OBEYED)


@pytest.mark.parametrize("model", [HOSTILE.removesuffix(".wav"), "nobody/\x1b[31m", "\x00", "x" * 5000])
@pytest.mark.parametrize("command", ["ask", "classify", "evaluate", "features", "push"])
def test_a_model_of_any_name_is_refused_in_a_sentence(
    command: str, model: str, sounds: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    lines = {
        "evaluate": ["evaluate", model, "--dataset", "demo", "--protocol", "musilingo", "--output_dir", "out"],
        "features": ["features", str(sounds), "--features", "features", "--model", model],
        "push": ["push", model, "you/model"],
    }
    status = cli.main(lines.get(command, [command, model, str(sounds / "good.wav")]))
    error = capsys.readouterr().err
    assert status in (1, 2) and error.startswith(f"descant {command}: ") and error.count("\n") == 1, error
    assert not any(control in error for control in OBEYED)


@pytest.mark.parametrize("question", ["caf\udce9?", " ", ""])
def test_a_question_that_is_no_text_is_a_usage_error(
    question: str, models: Path, sounds: Path, capsys: Capture
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["ask", str(models / "model"), str(sounds / "good.wav"), "-q", question])
    assert ended.value.code == 2 and "question" in capsys.readouterr().err


def test_a_search_that_no_memory_holds_is_refused(models: Path, sounds: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["ask", str(models / "model"), str(sounds / "good.wav"), "--num_beams", "100000"])
    assert ended.value.code == 2


def test_a_question_that_is_too_long_leaves_the_others(models: Path, sounds: Path, capsys: Capture) -> None:
    long = "Which instruments play? " * 200
    assert cli.main(["ask", str(models / "model"), str(sounds / "good.wav"), "-q", GENRE, "-q", long]) == 1
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 1 and shown.err.count("shorten the question") == 2  # one a window


@pytest.mark.parametrize("command", ["ask", "classify", "classify by an adapter"])
def test_weights_that_are_not_finite_are_named(
    command: str, models: Path, sounds: Path, tmp_path: Path, capsys: Capture
) -> None:
    weights = load_file(models / "model" / "model.safetensors")
    weights["audio_encoder.conv1.weight"].fill_(torch.nan)
    broken = save_tiny_model(tmp_path / "broken")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    line = ["ask", str(broken), str(sounds / "good.wav")]
    if command != "ask":
        line = ["classify", str(models / "subgenre"), str(sounds / "good.wav"), "--captioner", str(broken)]
    assert cli.main(line) == 2
    assert "audio_encoder.conv1.weight hold NaN" in capsys.readouterr().err


def test_an_adapter_gives_features_captions_and_scores(models: Path, sounds: Path, tmp_path: Path) -> None:
    adapter = str(models / "adapter")
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "good.wav").symlink_to(sounds / "good.wav")
    features = str(tmp_path / "features")
    assert cli.main(["features", str(clips), "--features", features, "--model", adapter]) == 0
    assert caption(Path(adapter), clips, tmp_path / "captions.csv") == 0
    row = {"audio": str(clips / "good.wav"), "question": GENRE, "answer": "jazz", "split": "test"}
    (tmp_path / "own.jsonl").write_text(json.dumps(row) + "\n")
    line = ["evaluate", adapter, "--dataset", str(tmp_path / "own.jsonl"), "--protocol", "musilingo"]
    assert cli.main([*line, "--features", features, "--output_dir", str(tmp_path / "out")]) == 0
    (answer,) = map(json.loads, (tmp_path / "out" / "answers.jsonl").read_text().splitlines())
    assert answer["prediction"] is not None and answer["error"] is None


# Disks


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk on which no file grows beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def job(command: str, models: Path, sounds: Path, out: Path) -> int:
    """Run a job that writes below a folder."""
    if command == "captions":
        return caption(models / "model", sounds, out / "captions.csv")
    if command == "features":
        return cli.main(["features", str(sounds), "--features", str(out / "features")])
    row = {"audio": str(sounds / "good.wav"), "question": GENRE, "answer": "jazz", "split": "test"}
    table = sounds / "own.jsonl"
    table.write_text(json.dumps(row) + "\n")
    line = ["evaluate", str(models / "model"), "--dataset", str(table), "--protocol", "musilingo"]
    return cli.main([*line, "--features", str(out / "features"), "--output_dir", str(out / "evaluation")])


JOBS = {"captions": (1, 100), "features": (1, 1000), "evaluate": (0, 1000)}


@pytest.mark.parametrize("command", JOBS)
def test_a_full_disk_is_one_sentence_with_the_path_and_the_same_command_goes_on(
    command: str, models: Path, sounds: Path, tmp_path: Path, capsys: Capture
) -> None:
    status, limit = JOBS[command]
    with files_of_at_most(limit):
        assert job(command, models, sounds, tmp_path) == 1
    error = capsys.readouterr().err
    last = error.splitlines()[-1]
    reasons = (os.strerror(errno.EFBIG).lower(), "the disk took only a part")
    assert str(tmp_path) in last and any(reason in last.lower() for reason in reasons), error
    assert "Traceback" not in error
    assert job(command, models, sounds, tmp_path) == status


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/1/nothing"])
@pytest.mark.parametrize("command", JOBS)
def test_a_folder_that_cannot_be_written_is_refused_before_work(
    command: str, place: str, models: Path, sounds: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "file").touch()
    assert job(command, models, sounds, tmp_path / place) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(tmp_path / place) in error, error


@pytest.mark.reliability
@pytest.mark.parametrize("command", JOBS)
def test_a_disk_that_is_full_or_read_only_is_named(
    command: str, models: Path, sounds: Path, tmp_path: Path, capsys: Capture
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        filler = fill(disk)
        assert job(command, models, sounds, disk) in (1, 2)
        mount(disk, "-o", "remount,ro")
        assert job(command, models, sounds, disk) == 2
        mount(disk, "-o", "remount,rw")
        full, frozen = (line for line in capsys.readouterr().err.splitlines() if f": {disk}" in line)
        assert "no space left" in full.lower() and "read-only" in frozen.lower(), (full, frozen)
        filler.unlink()
        assert job(command, models, sounds, disk) == JOBS[command][0]


# Signals


def asked_for(program: str, models: Path, folder: Path) -> list[str]:
    """Return the line of a program that has more to do than any test waits for."""
    song = folder / "song.wav"
    if not song.exists():
        write_song(song, 600.0, 8_000)
    if program == "ask":
        return LINES["ask"](models, [str(song)] * 500)
    for number in range(500):
        song.with_name(f"{number}.wav").hardlink_to(song)
    arguments = ["--checkpoint", str(models / "model"), "--audio", str(folder)]
    return [*arguments, "--output", str(folder / "captions.csv"), "--num_beams", "1", "--batch_size", "2"]


@pytest.mark.parametrize(("program", "number", "status"), [
    ("ask", signal.SIGTERM, 143), ("captions", signal.SIGINT, 130), ("captions", signal.SIGTERM, 143),
])  # fmt: skip
def test_a_signal_at_work_is_one_sentence(
    program: str, number: int, status: int, models: Path, tmp_path: Path
) -> None:
    line = asked_for(program, models, tmp_path)
    shown, answers = tmp_path / "shown", tmp_path / "captions.jsonl.part-0"
    child = os.fork()  # which has imported everything
    if child == 0:
        ended = 99
        try:
            for stream, name in ((1, shown), (2, tmp_path / "said")):
                os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), stream)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            if program == "ask":
                ended = cli.main(line)
            else:
                ended = run_program("captions_from_qa", lambda: caption_collection((GENRE,), 2, line))
        finally:
            sys.stderr.flush()
            os._exit(ended)
    first = shown if program == "ask" else answers
    while not (first.exists() and first.stat().st_size):
        assert os.waitpid(child, os.WNOHANG) == (0, 0), (tmp_path / "said").read_text()
        time.sleep(0.01)
    os.kill(child, number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status
    error = (tmp_path / "said").read_text()
    assert error.splitlines()[-1].startswith("descant ask" if program == "ask" else "captions_from_qa"), error
    assert "Traceback" not in error


@pytest.mark.parametrize(("program", "number", "status"), [
    ("ask", signal.SIGINT, 130), ("captions", signal.SIGTERM, 143),
])  # fmt: skip
def test_a_signal_at_once_is_one_sentence(
    program: str, number: int, status: int, models: Path, tmp_path: Path
) -> None:
    start = ["-m", "descant.cli"] if program == "ask" else [str(RECIPE)]
    line = [sys.executable, *start, *asked_for(program, models, tmp_path)]
    ready = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **ready) as process:
        wait_until_caught(process)
        process.send_signal(number)
        error = process.stderr.read()
    assert process.returncode == status and error.count("\n") == 1, error
    assert error.startswith("descant" if program == "ask" else "captions_from_qa"), error


def wait_until_caught(process: subprocess.Popen) -> None:
    """Wait until the process handles signals itself."""
    caught = False
    while process.poll() is None and not caught:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        masks = [int(line.split()[1], 16) for line in lines if line.startswith("SigCgt")]
        caught = any(mask >> (signal.SIGTERM - 1) & 1 for mask in masks)
