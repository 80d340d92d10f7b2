"""`descant score`: formats, JSON, skipped records, refusals."""

import json

import pytest

from descant.cli import main
from descant.evaluation.meteor import meteor_name

ITEMS = [
    {"prediction": "A slow piano piece.", "ground_truth": "A sad, slow piano piece."},
    {"prediction": "Loud drums and guitar.", "ground_truth": "An electric guitar over loud drums."},
]


@pytest.fixture
def published(tmp_path):
    path = tmp_path / "inference.json"
    path.write_text(json.dumps(ITEMS))
    return path


def test_json_holds_every_score_with_its_interval(published, capsys) -> None:
    assert main(["score", str(published), "--protocol", "lp_musiccaps", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    names = ["bleu1", "bleu2", "bleu3", "bleu4", meteor_name(), "rougeL", "vocab_size", "length_avg", "length_std"]
    assert set(scores["intervals"]) == set(names)
    assert all(low <= scores[name] <= high for name, (low, high) in scores["intervals"].items() if "bleu" in name)
    assert (scores["n"], scores["skipped"], scores["protocol"]) == (2, 0, "lp_musiccaps")
    assert scores["made_with"]["nltk"]


def test_a_table_is_printed_for_people(published, capsys) -> None:
    assert main(["score", str(published), "--protocol", "musilingo"]) == 0
    out = capsys.readouterr().out
    assert "musilingo, 2 predictions, 0 skipped" in out and "rougeL_recall" in out


def test_training_texts_add_novelty(published, tmp_path, capsys) -> None:
    (tmp_path / "train.txt").write_text("A slow piano piece.\n")
    options = ["--protocol", "lp_musiccaps", "--train_references", str(tmp_path / "train.txt"), "--json"]
    assert main(["score", str(published), *options]) == 0
    assert json.loads(capsys.readouterr().out)["caption_novelty"] == 0.5


def test_tags_add_claims(published, tmp_path, capsys) -> None:
    (tmp_path / "tags.csv").write_text(
        "aspect_list,caption\n\"['piano', 'slow tempo']\",\"A sad, slow piano piece.\"\n"
    )
    assert (
        main(["score", str(published), "--protocol", "lp_musiccaps", "--tags", str(tmp_path / "tags.csv"), "--json"])
        == 0
    )
    claims = json.loads(capsys.readouterr().out)["claims"]
    assert (claims["n"], claims["claims_precision"], claims["claims_recall"]) == (1, 1, 1)


def test_closed_questions_add_exact_answers(tmp_path, capsys) -> None:
    rows = [
        {"clip_id": f"c{i}", "question_type": "genre", "prediction": "jazz", "reference": "a jazz song"} for i in "ab"
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["score", str(path), "--protocol", "musilingo", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["exact"] == scores["exact_genre"] == 1


def test_skipped_records_are_named_and_change_the_exit_status(tmp_path, capsys) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps(ITEMS[0]) + "\n" + '{"clip_id": "c7", "error": "cannot be decoded"}\n')
    assert main(["score", str(path), "--protocol", "musilingo", "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["skipped"] == 1
    assert "answers.jsonl:2: c7: was not answered: cannot be decoded" in captured.err


@pytest.mark.parametrize("text", ["[]", "no json", '[{"a": 1}]'])
def test_a_file_with_nothing_to_score_is_refused(tmp_path, capsys, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    assert main(["score", str(tmp_path / "x.json"), "--protocol", "musilingo"]) == 2
    assert "x.json" in capsys.readouterr().err


def test_a_missing_file_and_a_missing_protocol_are_refused(published, tmp_path, capsys) -> None:
    assert main(["score", str(tmp_path / "absent.json"), "--protocol", "musilingo"]) == 2
    with pytest.raises(SystemExit) as usage:
        main(["score", str(published)])
    assert usage.value.code == 2


ODD_FIELDS = [{"question_type": 3}, {"question": [{"role": "user"}]}, {"start_s": [0]}, {"model": 5}, {"clip_id": {}}]


@pytest.mark.parametrize("fields", ODD_FIELDS)
def test_field_of_another_type_is_one_named_problem(tmp_path, capsys, fields) -> None:
    good = {"clip_id": "c", "start_s": 0.0, "question": "q", "prediction": "jazz", "references": ["jazz"]}
    path = str(tmp_path / "answers.jsonl")
    (tmp_path / "answers.jsonl").write_text(f"{json.dumps(good | fields)}\n{'[' * 100_000}\n{json.dumps(good)}\n")
    assert main(["score", path, "--protocol", "musilingo", "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["n"] == 1
    for line in (1, 2):
        assert shown.err.count(f"answers.jsonl:{line}: ") == 1


def test_bad_training_texts_and_tags_are_named_and_the_rest_is_used(published, tmp_path, capsys) -> None:
    (tmp_path / "train.jsonl").write_text('{"caption": "A slow piano piece."}\n{"caption": 5}\n')
    tags = [{"caption": item["ground_truth"], "aspect_list": ["piano"]} for item in ITEMS]
    rows = [*tags, {"caption": "x", "aspect_list": 5}]
    (tmp_path / "tags.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--train_references", str(tmp_path / "train.jsonl"), "--tags", str(tmp_path / "tags.jsonl"), "--json"]
    assert main(["score", str(published), "--protocol", "musilingo", *options]) == 1
    shown = capsys.readouterr()
    assert "train.jsonl:2: " in shown.err and "tags.jsonl:3: " in shown.err
    assert json.loads(shown.out)["claims"]["n"] == 2
