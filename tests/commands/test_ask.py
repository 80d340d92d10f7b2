"""`descant ask`, as it is typed: lines, JSON, bad files, bad models, exit status."""

import json
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from forked_python import ForkedPython, run_forked
from hub import LocalHub
from tiny import save_tiny_model, write_song

from descant import cli
from descant.answering.answers import TrackAnswer
from descant.commands import ask
from descant.models.lp_music_caps import LPMusicCapsForConditionalGeneration

QUESTIONS = ["-q", "What is the genre?", "-q", "Which instruments play?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture
def song(tmp_path: Path) -> str:
    return str(write_song(tmp_path / "song.wav", 25.0))


def test_one_line_an_answer_in_the_order_of_asking(
    folder: str, song: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ask", folder, song, *QUESTIONS, "--windows"]) == 0
    shown = capsys.readouterr()
    stamps = ["0:00–0:10", "0:10–0:20", "0:20–0:25"]
    starts = [f"{song}  {stamp}  {question}  " for stamp in stamps for question in QUESTIONS[1::2]]
    lines = shown.out.splitlines()
    assert len(lines) == len(starts) and all(map(str.startswith, lines, starts))
    assert shown.err == ""


def test_json_lines_hold_seconds_as_numbers(folder: str, song: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ask", folder, song, *QUESTIONS, "--windows", "--json", "--num_beams", "3"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["start_s"], one["end_s"]) for one in answers[::2]] == [(0.0, 10.0), (10.0, 20.0), (20.0, 25.0)]
    assert {one["audio"] for one in answers} == {song} and {one["model"] for one in answers} == {folder}
    assert all(one["score"] < 0 and one["generation"]["num_beams"] == 3 for one in answers)


def test_without_a_question_each_window_is_captioned(
    folder: str, song: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ask", folder, song, "--windows", "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["question"] for one in answers] == [None] * 3


def test_a_track_has_one_answer_a_question_with_what_it_rests_on(
    folder: str, song: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ask", folder, song, song, *QUESTIONS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == lines[2:] and len(lines) == 4, "the same file twice is two tracks"
    assert [line.split("  ")[1] for line in lines[:2]] == QUESTIONS[1::2]
    assert all(" of 3 windows)" in line for line in lines)
    assert cli.main(["ask", folder, song, "--json", "--hear", "2", *QUESTIONS]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[0])
    assert record["of"] == 2 and record["heard"][0][0] in (0.0, 10.0) and 0 < record["confidence"] <= 1


def test_a_decided_answer_is_one_line_whatever_the_file_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    decided = {"text": "Jazz.", "probability": 0.8, "sure": True}
    answer = TrackAnswer("1", "a", "a\nb.wav", 0.0, 10.0, "Which\ngenre?", "box", {}, None, "Jazz.", decided=decided)
    ask._show(answer, as_json=False)
    assert capsys.readouterr().out == "a b.wav  Which genre?  Jazz.  (80 %)\n"


def test_bad_files_are_named_and_the_others_answered(
    folder: str, song: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.mp3").write_text("no music")
    cut = tmp_path / "cut.wav"
    cut.write_bytes(Path(song).read_bytes()[:100_000])
    bad = [str(tmp_path / name) for name in ("absent.wav", "empty.wav", "text.mp3", "cut.wav")]
    assert cli.main(["ask", folder, *bad[:2], song, *bad[2:], "--windows", "-q", "What is the genre?"]) == 1
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 3
    errors = shown.err.splitlines()
    reasons = ("does not exist", "is empty", "is not sound", "is cut short")
    assert len(errors) == 4
    for path, reason in zip(bad, reasons, strict=True):
        assert any(line.startswith(f"descant ask: {path}: {reason}") for line in errors)


def test_all_files_windows_and_questions_are_one_stream(
    folder: str, song: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams, answer_many = [], LPMusicCapsForConditionalGeneration.answer_many

    def count(model: LPMusicCapsForConditionalGeneration, pairs: Iterable, **settings: object) -> Iterable:
        streams.append(list(pairs))
        return answer_many(model, streams[-1], **settings)

    monkeypatch.setattr(LPMusicCapsForConditionalGeneration, "answer_many", count)
    other = str(write_song(tmp_path / "other.flac", 12.0))
    assert cli.main(["ask", folder, song, other, *QUESTIONS]) == 0
    assert [len(stream) for stream in streams] == [(3 + 2) * 2]


def test_a_lower_precision_is_chosen_by_name(
    folder: str, song: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ask", folder, song, "--windows", "--json", "--precision", "int8"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["generation"]["tier"] for one in answers} == {"int8"} and len(answers) == 3


def test_a_bad_file_has_a_json_line_with_the_reason(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ask", folder, "absent.wav", "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["error"] == "does not exist" and "absent.wav: does not exist" in shown.err


@pytest.mark.parametrize(("model", "said"), [("no/such/folder", "no such folder"), ("lm", "a llama model")])
def test_a_model_that_is_none_is_refused_before_anything_is_heard(
    model: str, said: str, song: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "config.json").write_text('{"model_type": "llama"}')
    assert cli.main(["ask", model, song, "-q", "Why?"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and said in shown.err


@pytest.mark.parametrize("extra", [["-q", " "], ["--num_beams", "0"], ["--batch_size", "x"], ["--nonsense"],
                                   ["--windows", "--hear", "2"]])  # fmt: skip
def test_wrong_options_are_usage_errors(folder: str, song: str, extra: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(cli.main(["ask", folder, song, *extra]))
    assert ended.value.code == 2


def test_a_question_too_long_for_the_model_is_refused(
    folder: str, song: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ask", folder, song, "-q", "Which instruments? " * 200]) == 2
    assert "shorten the question" in capsys.readouterr().err


def test_real_recordings_are_answered(folder: str, shared_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(shared_dir / "data/audio" / name) for name in ("electronic.mp3", "orchestra.wav")]
    assert cli.main(["ask", folder, *files, "--windows", "-q", "What is the genre?"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1] for line in lines if "electronic" in line][-1] == "0:50–0:59.95"
    assert len(lines) == 6 + 3  # the 13 ms behind the orchestra's third window are no window


def test_a_model_on_the_hub_is_asked(
    folder: str, song: str, local_hub: LocalHub, capsys: pytest.CaptureFixture[str]
) -> None:
    local_hub.api().create_repo("tester/listener")
    local_hub.api().upload_folder(repo_id="tester/listener", folder_path=folder)
    assert cli.main(["ask", "tester/listener", song, "-q", "What is the genre?", "--windows"]) == 0
    shown = capsys.readouterr()
    assert (shown.err, len(shown.out.splitlines())) == ("", 3)


def test_a_file_name_that_is_not_text_is_answered(
    folder: str, song: str, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = os.path.join(os.path.dirname(song), "caf\udce9.wav")  # é in Latin-1
    os.rename(song, odd)
    assert cli.main(["ask", folder, odd, "-q", "What is the genre?", "--windows"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert cli.main(["ask", folder, odd, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["audio"] == odd


def test_an_interrupt_from_the_keyboard_ends_with_130(folder: str, tmp_path: Path) -> None:
    songs = [str(write_song(tmp_path / "long.wav", 60.0, 8_000))] * 400
    line = ["ask", folder, *songs, "-q", "What is the genre?", "--windows", "--batch_size", "2"]
    process = ForkedPython("-m", "descant.cli", *line)
    while "0:00–0:10" not in process.said()[0]:
        assert process.poll() is None, process.said()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130 and process.said()[1].strip() == "descant ask: interrupted"


# What takes a tenth of a second or more to import, and no question needs.
NEEDLESS = "datasets evaluate matplotlib nltk pandas peft pyarrow sklearn transformers.pipelines transformers.trainer"
STARTING = """
import gc, sys
needless = set(sys.argv.pop(1).split())
for name in [name for name in sys.modules if needless & {name, name.partition(".")[0]}]:
    del sys.modules[name]  # the process that was forked had imported it
from descant.cli import main
status = main(sys.argv[1:])
print(status, sorted(needless & sys.modules.keys()), gc.isenabled(), gc.get_freeze_count() > 100_000)
"""


def test_the_start_imports_nothing_needless_and_looks_for_no_garbage_in_what_stays(folder: str, song: str) -> None:
    done = run_forked("-c", STARTING, NEEDLESS, "ask", folder, song, "-q", "What is the genre?")
    assert done.stdout.splitlines()[-1] == "0 [] True True", done.stdout + done.stderr
