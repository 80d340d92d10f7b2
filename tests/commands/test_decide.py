"""`descant decide`, as it is typed: lines, JSON, questions in files, bad questions, bad files, exit status."""

import json
from pathlib import Path

import pytest
from tiny import save_tiny_decider, save_tiny_model, write_song

from descant import cli


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_decider(tmp_path_factory.mktemp("model")))


@pytest.fixture
def song(tmp_path: Path) -> str:
    return str(write_song(tmp_path / "song.wav", 12.0))


def test_each_track_has_a_block_of_lines(folder: str, song: str, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["decide", song, "--model", folder, "--choice", "genre=jazz,rock", "--yesno", "Are there drums?"]
    assert cli.main(args) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0] == song and shown.err == ""
    assert [line.split("  ")[1] for line in shown.out.splitlines()[1:]] == ["genre", "Are there drums?"]
    assert all(line.endswith("0:00–0:12") and " %)" in line for line in shown.out.splitlines()[1:])


def test_json_holds_system_ones_answers(folder: str, song: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["decide", song, "--model", folder, "--score", "genre=jazz,rock,piano", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["audio"] == song and record["duration_s"] == 12.0 and record["model"] == folder
    answer = record["decisions"]["genre"]
    assert answer["legend"] == {"0": "jazz", "1": "rock", "2": "piano"} and 0 <= answer["score"] <= 2


def test_explain_adds_the_seconds_that_answers_rest_on(
    folder: str, song: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["decide", song, "--model", folder, "--choice", "genre=jazz,rock", "--score", "age=new,old", "--explain"]
    assert cli.main(args) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3] == "  evidence" and len(lines) == 5 and lines[4].startswith("    genre  ")
    assert cli.main([*args, "--json"]) == 0
    evidence = json.loads(capsys.readouterr().out)["evidence"]
    assert set(evidence) == {"genre"} and len(evidence["genre"]["spans"]) == 20
    assert set(evidence["genre"]["spans"][0]) == {"start_s", "end_s", "drop"}


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_questions_are_read_from_a_file(
    folder: str, song: str, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {
        "yaml": "genre: {type: choice, instructions: 'What is the genre?', criteria: {jazz: null, rock: null}}",
        "json": '{"genre": {"type": "choice", "instructions": "Genre?", "criteria": {"rock": null, "pop": ""}}}',
    }
    path = tmp_path / f"questions.{form}"
    path.write_text(texts[form])
    assert cli.main(["decide", song, "--model", folder, "--questions", str(path), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["decisions"]) == {"genre"}


def test_a_threshold_makes_answers_unsure_until_always(
    song: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(save_tiny_decider(tmp_path / "model", threshold=1.01))
    args = ["decide", song, "--model", folder, "--choice", "genre=jazz,rock"]
    assert cli.main(args) == 0 and "not sure (" in capsys.readouterr().out
    assert cli.main([*args, "--always"]) == 0 and "not sure" not in capsys.readouterr().out


def test_bad_files_are_named_and_the_others_decided(
    folder: str, song: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "missing.wav")
    assert cli.main(["decide", missing, song, "--model", folder, "--yesno", "Are there drums?"]) == 1
    shown = capsys.readouterr()
    assert missing in shown.err and song in shown.out and missing not in shown.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "no question was given"),
        (["--choice", "genre=jazz,rock", "--score", "genre=a,b"], "given twice"),
        (["--questions", "nowhere.yaml"], "nowhere.yaml"),
        (["--choice", "genre=jazz"], "at least two different options"),
        (["--yesno", " "], "empty"),
        (["--hear", "0"], "less than 1"),
    ],
)
def test_wrong_questions_are_refused(
    folder: str, song: str, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(cli.main(["decide", song, "--model", folder, *options]))
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_a_bad_questions_file_and_an_unfitted_model_are_refused_in_one_sentence(
    folder: str, song: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"genre": {"type": "colour"}}')
    plain = str(save_tiny_model(tmp_path / "plain"))
    for args in (["--model", folder, "--questions", str(bad)], ["--model", plain, "--yesno", "Are there drums?"]):
        with pytest.raises(SystemExit) as ended:
            raise SystemExit(cli.main(["decide", song, *args]))
        error = capsys.readouterr().err
        assert ended.value.code == 2 and len(error.strip().splitlines()) == 1 and "Traceback" not in error
