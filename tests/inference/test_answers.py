"""Answers: ids that tell two apart, JSON lines, and the order of asking."""

import json

import pytest

from descant.inference.answers import Answer, answer_id, in_order

GENERATION = {"num_beams": 5, "max_length": 128}


def test_the_id_changes_with_each_part_of_its_key() -> None:
    ids = {
        answer_id("a.wav", 0.0, "Which genre?", GENERATION),
        answer_id("b.wav", 0.0, "Which genre?", GENERATION),
        answer_id("a.wav", 10.0, "Which genre?", GENERATION),
        answer_id("a.wav", 0.0, None, GENERATION),
        answer_id("a.wav", 0.0, "Which genre?", {**GENERATION, "num_beams": 1}),
    }
    assert len(ids) == 5 and all(len(one) == 40 for one in ids)


def test_the_id_does_not_depend_on_the_order_of_the_settings() -> None:
    turned = dict(reversed(GENERATION.items()))
    assert answer_id("a.wav", 0.0, None, GENERATION) == answer_id("a.wav", 0.0, None, turned)


def test_a_file_name_that_is_not_text_has_an_id() -> None:
    assert answer_id("a\udcff.wav", 0.0, None, {}) != answer_id("b\udcff.wav", 0.0, None, {})


def test_a_line_of_json_has_the_fields_of_answers_jsonl() -> None:
    answer = Answer("1", "a", "a.wav", 0.0, 10.0, "Où?", "model", GENERATION, prediction="Là.", score=-0.5)
    assert "Où?" in answer.to_json()
    assert set(json.loads(answer.to_json())) == {
        "id", "clip_id", "audio", "start_s", "end_s", "question", "question_type", "prediction", "references", "score",
        "model", "generation", "error",
    }  # fmt: skip


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2)])
def test_items_leave_in_the_order_of_their_numbers(order: tuple[int, ...]) -> None:
    assert list(in_order((number, f"item {number}") for number in order)) == [f"item {number}" for number in range(4)]


def test_an_item_whose_turn_it_is_leaves_at_once() -> None:
    source = iter([(0, "first"), (2, "third"), (1, "second")])
    ordered = in_order(source)
    assert next(ordered) == "first" and next(source) == (2, "third")
