"""`descant compare`: pairing, JSON, partnerless answers, refusals."""

import json
from pathlib import Path

import pytest

from descant.cli import main
from descant.evaluation.benchmarks import ChoiceItem
from descant.evaluation.choosing import Answered, Choice
from descant.files import JsonLines


def write(path, texts: dict[str, str], reference: str = "a slow jazz piece") -> str:
    rows = [
        {"clip_id": clip, "start_s": 0.0, "question": "genre?", "question_type": "genre", "prediction": text,
         "references": [reference]}
        for clip, text in texts.items()
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_better_system_is_told_with_its_p_value(tmp_path, capsys) -> None:
    clips = [f"c{i}" for i in range(30)]
    first = write(tmp_path / "a.jsonl", dict.fromkeys(clips, "a rock song"))
    second = write(tmp_path / "b.jsonl", dict.fromkeys(reversed(clips), "a jazz song"))
    assert main(["compare", first, second, "--protocol", "musilingo", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    exact = result["scores"]["exact"]
    assert (result["n"], exact["a"], exact["b"], exact["difference"]) == (30, 0, 1, 1)
    assert exact["interval"] == [1, 1] and exact["p"] < 0.01


def test_a_table_is_printed_for_people(tmp_path, capsys) -> None:
    first = write(tmp_path / "a.jsonl", {"x": "jazz", "y": "rock"})
    assert main(["compare", first, first]) == 0
    assert "exact_genre" in capsys.readouterr().out


def test_answers_without_a_partner_are_named(tmp_path, capsys) -> None:
    first, second = write(tmp_path / "a.jsonl", {"x": "jazz", "y": "jazz"}), write(tmp_path / "b.jsonl", {"x": "jazz"})
    assert main(["compare", first, second, "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["n"] == 1
    assert "y: only one file answers 'genre?'" in captured.err


@pytest.mark.parametrize(("clip", "reference"), [("z", "a slow jazz piece"), ("x", "another reference")])
def test_files_that_cannot_be_compared_are_refused(tmp_path, capsys, clip: str, reference: str) -> None:
    first = write(tmp_path / "a.jsonl", {"x": "jazz"})
    second = write(tmp_path / "b.jsonl", {clip: "jazz"}, reference)
    assert main(["compare", first, second]) == 2
    assert capsys.readouterr().err.startswith("descant compare: ")


ODD_FIELDS = [{"question_type": 3}, {"question": [{"role": "user"}]}, {"start_s": [0]}, {"model": 5}, {"clip_id": {}}]


@pytest.mark.parametrize("fields", ODD_FIELDS)
def test_field_of_another_type_is_one_named_problem(tmp_path, capsys, fields) -> None:
    good = {"clip_id": "c", "start_s": 0.0, "question": "q", "prediction": "jazz", "references": ["jazz"]}
    path = str(tmp_path / "answers.jsonl")
    (tmp_path / "answers.jsonl").write_text(f"{json.dumps(good | fields)}\n{'[' * 100_000}\n{json.dumps(good)}\n")
    assert main(["compare", path, path, "--protocol", "musilingo", "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["n"] == 1
    for line in (1, 2):
        assert shown.err.count(f"answers.jsonl:{line}: ") == 2


def write_choices(folder: Path, letters: dict[str, str], rotations: int = 2, options: str = "abc") -> str:
    """A run's folder: what was chosen of each item ("" refused), in some orders of the options; "b" is right."""
    folder.mkdir()
    answered = [
        Answered(ChoiceItem(name, f"clip {name}", str(folder), "Which?", tuple(options), 1), "own", turn,
                 Choice(letter or None, 0.5 if letter else None))
        for name, letter in letters.items() for turn in range(rotations)
    ]  # fmt: skip
    JsonLines(folder / "answers.jsonl").write(one.to_record("m") for one in answered)
    return str(folder)


def test_two_runs_of_a_benchmark_are_compared_by_item(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{number:02d}" for number in range(30)]
    first = write_choices(tmp_path / "a", dict.fromkeys(names, "a"), rotations=1)
    second = write_choices(tmp_path / "b", dict.fromkeys(reversed(names), "b"), rotations=3)
    assert main(["compare", first, second, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    accuracy = result["scores"]["accuracy"]
    assert (result["n"], accuracy["a"], accuracy["b"], accuracy["interval"]) == (30, 0, 1, [1, 1])
    assert accuracy["p"] < 0.01 and set(result["scores"]) == {"accuracy", "first_order", "refused"}
    half = write_choices(tmp_path / "c", {**dict.fromkeys(names[:10], "b"), **dict.fromkeys(names[10:], "")})
    assert main(["compare", second, f"{half}/answers.jsonl"]) == 0
    table = capsys.readouterr().out
    assert "30 answers in both" in table and "refused                    0.0000     0.6667" in table
    assert "changed" in table


def test_runs_that_lack_items_or_ask_others_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write_choices(tmp_path / "a", {"x": "a", "y": "b"})
    second = write_choices(tmp_path / "b", {"x": "b"})
    assert main(["compare", first, second]) == 1
    assert "y: only one file answers 'Which?'" in capsys.readouterr().err
    other = write_choices(tmp_path / "c", {"x": "b"}, options="abd")
    words = write(tmp_path / "words.jsonl", {"x": "jazz"})
    none = write_choices(tmp_path / "d", {"z": "b"})
    for arguments, sentence in (
        ([first, other], "x: the two files give different options"),
        ([first, words], "only one of"),
        ([first, none], "no answered question in common"),
        ([first, second, "--protocol", "musilingo"], "--protocol does nothing"),
    ):
        assert main(["compare", *arguments]) == 2
        assert sentence in capsys.readouterr().err
    JsonLines(Path(second) / "answers.jsonl").append({"chosen": "a", "options": [], "rotation": 0})
    assert main(["compare", second, second]) == 1
    assert "answers.jsonl: record 3 is no answer to a multiple-choice question" in capsys.readouterr().err
