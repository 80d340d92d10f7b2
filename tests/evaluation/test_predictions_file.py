"""Predictions: read in the shapes that papers publish, every bad record named, and made row by row."""

import json

import numpy as np
import pytest
from tiny import build_tiny_model

from descant.data.annotations import Row
from descant.data.tables import AnnotationError
from descant.evaluation.controls import answer_rows
from descant.evaluation.predictions_file import Item, Items, pair_items, read_items, read_train_references

LIST = [{"prediction": "a", "ground_truth": "b"}]
KEYED = {"0": {"predictions": "a", "true_captions": ["b", "c"], "audio_id": "x.npy"}}


def test_a_list_of_published_predictions_loads_as_it_is(tmp_path) -> None:
    (tmp_path / "inference.json").write_text(json.dumps(LIST))
    assert read_items(tmp_path / "inference.json").items == [Item("a", ("b",), "#1")]


def test_an_object_of_records_loads_with_its_clips(tmp_path) -> None:
    (tmp_path / "inference.json").write_text("\ufeff" + json.dumps(KEYED))
    assert read_items(tmp_path / "inference.json").items == [Item("a", ("b", "c"), "x.npy")]


def test_our_own_answers_load(tmp_path) -> None:
    record = {"clip_id": "c", "start_s": 10.0, "question": "q", "question_type": "mood", "model": "m", "error": None}
    (tmp_path / "answers.jsonl").write_text(json.dumps(record | {"prediction": "", "references": ["r"]}) + "\n\n")
    assert read_items(tmp_path / "answers.jsonl").items == [Item("", ("r",), "c", 10.0, "q", "mood", "m")]


@pytest.mark.parametrize("separator", ["\u0085", "\u2028", "\u2029"])
def test_a_record_goes_to_the_end_of_its_line(tmp_path, separator) -> None:
    text = f"slow{separator}sad"
    record = {"prediction": "a", "reference": text}
    (tmp_path / "answers.jsonl").write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_items(tmp_path / "answers.jsonl") == Items([Item("a", (text,), "#1")])


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prediction": "a"}, "has no reference"),
        ({"reference": "a"}, "has 0 predictions"),
        ({"predictions": ["a", "b"], "reference": "c"}, "has 2 predictions"),
        ({"prediction": "a", "references": []}, "has no reference"),
        ({"prediction": 5, "reference": "a"}, "is not a text"),
        (
            {"prediction": None, "references": ["a"], "error": "cannot be decoded"},
            "was not answered: cannot be decoded",
        ),
        ("half a li", "broken JSON"),
        ("5", "is not a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ({"prediction": "a", "reference": "b", "question_type": 3}, "bad: question_type is int, not text"),
        ({"prediction": "a", "reference": "b", "question": [{"role": "user"}]}, "bad: question is list, not text"),
        ({"prediction": "a", "reference": "b", "start_s": [0]}, "bad: start_s is [0], not seconds"),
        ({"prediction": "a", "reference": "b", "start_s": float("nan")}, "bad: start_s is nan, not seconds"),
        ({"prediction": "a", "reference": "b", "model": {}}, "bad: model is dict, not text"),
        ({"prediction": "a", "reference": "b", "clip_id": ["c"]}, "clip_id or audio_id"),
        ({"prediction": "a", "reference": {"text": "b"}}, "is not a text or a list of texts"),
        ({"prediction": "\ud800", "reference": "b"}, "is not UTF-8 text"),
    ],
)
def test_a_bad_record_is_named_and_the_rest_is_kept(tmp_path, record, reason: str) -> None:
    line = record if isinstance(record, str) else json.dumps({"clip_id": "bad", **record})
    (tmp_path / "answers.jsonl").write_text(line + "\n" + json.dumps(LIST[0]) + "\n")
    found = read_items(tmp_path / "answers.jsonl")
    assert len(found.items) == 1
    assert reason in str(found.problems[0]) and found.problems[0].row == 1


@pytest.mark.parametrize("text", ["{", "5", ""])
def test_a_file_that_is_no_json_is_refused_by_name(tmp_path, text: str) -> None:
    (tmp_path / "inference.json").write_text(text)
    with pytest.raises(AnnotationError, match=r"inference\.json"):
        read_items(tmp_path / "inference.json")


def test_a_name_that_is_no_utf8_is_a_clip_like_any_other(tmp_path) -> None:
    (tmp_path / "answers.jsonl").write_bytes(b'{"clip_id": "caf\xe9", "prediction": "a", "reference": "b"}\n')
    assert [item.clip for item in read_items(tmp_path / "answers.jsonl").items] == ["caf\udce9"]


def test_a_bad_training_text_is_named_and_the_rest_is_read(tmp_path) -> None:
    (tmp_path / "own.jsonl").write_text('{"caption": 5}\n{"caption": "seen"}\n{"caption": \n')
    found = read_train_references(tmp_path / "own.jsonl")
    assert found.texts == ["seen"] and [problem.row for problem in found.problems] == [1, 3]


def test_training_texts_leave_out_what_is_held_out(tmp_path) -> None:
    (tmp_path / "musiccaps.csv").write_text("caption,is_audioset_eval\nknown,False\nhidden,True\n")
    (tmp_path / "own.jsonl").write_text(
        '{"answer": "seen", "split": "train"}\n{"answer": "unseen", "split": "test"}\n'
    )
    (tmp_path / "lines.txt").write_text("one\n\ntwo\n")
    assert read_train_references(tmp_path / "musiccaps.csv").texts == ["known"]
    assert read_train_references(tmp_path / "own.jsonl").texts == ["seen"]
    assert read_train_references(tmp_path / "lines.txt").texts == ["one", "two"]


def test_a_file_without_training_texts_is_refused(tmp_path) -> None:
    (tmp_path / "test_only.csv").write_text("caption,split\nx,test\n")
    with pytest.raises(AnnotationError, match="holds no training texts"):
        read_train_references(tmp_path / "test_only.csv")


def test_items_are_paired_by_clip_second_and_question() -> None:
    first = [Item("a", ("r",), "x", 0.0, "q"), Item("b", ("r",), "x", 0.0, None), Item("c", ("r",), "y", 0.0, "q")]
    second = [Item("d", ("r",), "x", 0.0, None), Item("e", ("r",), "x", 0.0, "q"), Item("f", ("r",), "z", 0.0, "q")]
    pairs, single = pair_items(first, second)
    assert [(one.prediction, other.prediction) for one, other in pairs] == [("a", "e"), ("b", "d")]
    assert [item.clip for item in single] == ["y", "z"]


def test_other_references_are_refused() -> None:
    with pytest.raises(ValueError, match="x: the two files give different references"):
        pair_items([Item("a", ("r",), "x")], [Item("a", ("s",), "x")])


ROWS = [
    Row(f"clip{clip}", question, "jazz", None, "own", 0, 10)
    for clip in range(4)
    for question in ("What is the genre?", None)
]


class Store:
    """Random features by clip."""

    def read(self, clip_id: str, out=None) -> np.ndarray:
        rng = np.random.default_rng(int(clip_id.removeprefix("clip")))
        return rng.normal(-40, 20, size=(128, 1001)).astype(np.float32)


@pytest.fixture(scope="module")
def tiny():
    return build_tiny_model()


def test_answers_come_in_the_order_of_the_rows(tiny) -> None:
    together = answer_rows(*tiny, ROWS, Store(), batch_size=3)
    alone = [answer_rows(*tiny, [row], Store())[0] for row in ROWS]
    assert together == alone and len(set(together)) > 1


def test_another_clip_is_heard_where_a_control_says_so(tiny) -> None:
    own = answer_rows(*tiny, ROWS, Store())
    others = {f"clip{clip}": f"clip{(clip + 1) % 4}" for clip in range(4)}
    heard = answer_rows(*tiny, ROWS, Store(), heard=others)
    assert heard == own[2:] + own[:2] != own


def test_generation_settings_are_passed_on(tiny) -> None:
    texts = answer_rows(*tiny, ROWS, Store(), num_beams=1, max_length=3)
    longer = answer_rows(*tiny, ROWS, Store(), num_beams=1, max_length=8)
    assert max(map(len, texts)) < max(map(len, longer))


def test_a_row_that_fails_is_logged_and_leaves_the_others(tiny, caplog: pytest.LogCaptureFixture) -> None:
    class Damaged(Store):
        def read(self, clip_id: str, out=None) -> np.ndarray:
            if clip_id == "clip1":
                raise ValueError("the record's header is damaged")
            return super().read(clip_id)

    long = Row("clip2", "Which instruments? " * 200, "piano", None, "own", 0, 10)
    texts = answer_rows(*tiny, [*ROWS, long], Damaged())
    own = answer_rows(*tiny, ROWS, Store())
    assert texts == [*own[:2], "", "", *own[4:], ""]
    assert "clip1" in caplog.text and "header is damaged" in caplog.text and "shorten the question" in caplog.text
