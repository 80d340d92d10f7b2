"""Questions of a split, and their answers over processes and runs."""

import numpy as np
import pytest
from tiny import build_tiny_model

from descant.data.annotations import Row
from descant.evaluation.answer_log import AnswerLog
from descant.evaluation.controls import Condition
from descant.evaluation.questions import Question, Share, answer_questions, gather_questions
from descant.inference.listener import Listener

QUESTIONS = [
    Question(f"clip{clip}", 0.0, 10.0, question, "genre", ("jazz",))
    for clip in range(5) for question in ("What is the genre?", None, "Which instruments play?")
]  # fmt: skip


class Store:
    """Random features by clip."""

    def read(self, clip_id: str, out=None) -> np.ndarray:
        seed = int(clip_id.removeprefix("clip"))
        return np.random.default_rng(seed).normal(-40, 20, size=(128, 1001)).astype(np.float32)


@pytest.fixture(scope="module")
def listener() -> Listener:
    return Listener(*build_tiny_model(), "tiny")


def answer(listener, folder, share=None, batch_size: int = 1, condition=None) -> dict[str, dict]:
    condition = condition or Condition("own", Store())
    log = AnswerLog(folder, condition.name, "f", share.process if share else 0)
    answer_questions(listener, QUESTIONS, condition, log, batch_size, share or Share())
    return AnswerLog(folder, condition.name, "f").known


def texts(known: dict[str, dict]) -> dict:
    return {(record["clip_id"], record["question"]): record["prediction"] for record in known.values()}


def test_rows_of_one_question_become_one_question_with_all_references() -> None:
    rows = [
        Row("a", "q?", "one", "genre", "own", 0, 10), Row("b", "q?", "two", "genre", "own", 0, 10),
        Row("a", "r?", "three", None, "own", 0, 10), Row("a", "q?", "four", "genre", "own", 0, 10),
    ]  # fmt: skip
    assert gather_questions(rows) == [
        Question("a", 0, 10, "q?", "genre", ("one", "four")), Question("a", 0, 10, "r?", None, ("three",)),
        Question("b", 0, 10, "q?", "genre", ("two",)),
    ]  # fmt: skip


def test_every_question_is_answered_with_the_records_fields(listener, tmp_path) -> None:
    known = answer(listener, tmp_path)
    assert len(known) == len(QUESTIONS) and len(set(texts(known).values())) > 1
    record = next(iter(known.values()))
    assert record["references"] == ["jazz"] and record["question_type"] == "genre" and record["error"] is None
    assert record["score"] < 0 and record["generation"]["num_beams"] == 2


def test_processes_give_exactly_the_answers_of_one(listener, tmp_path) -> None:
    alone = answer(listener, tmp_path / "one")
    for process in range(3):
        together = answer(listener, tmp_path / "three", Share(process, 3))
    assert together == alone


def test_kept_answers_are_not_asked_for_again(listener, tmp_path, monkeypatch) -> None:
    before = answer(listener, tmp_path)
    monkeypatch.setattr(listener.model, "answer_many", None)
    assert answer(listener, tmp_path) == before


def test_a_run_that_broke_off_goes_on_to_the_same_answers(listener, tmp_path, monkeypatch) -> None:
    whole = answer(listener, tmp_path / "whole")
    log, done = AnswerLog(tmp_path / "broken", "own", "f"), []

    def break_off(answers) -> None:
        if done:
            raise KeyboardInterrupt
        done.append(AnswerLog.append(log, answers))

    monkeypatch.setattr(log, "append", break_off)
    with pytest.raises(KeyboardInterrupt):
        answer_questions(listener, QUESTIONS, Condition("own", Store()), log, 1, Share())
    assert 0 < len(AnswerLog(tmp_path / "broken", "own", "f").known) < len(QUESTIONS)
    assert answer(listener, tmp_path / "broken") == whole


def test_a_control_has_ids_of_its_own(listener, tmp_path) -> None:
    own = answer(listener, tmp_path)
    control = answer(listener, tmp_path, condition=Condition("shuffled", Store(), heard={"clip0": "clip1"}))
    assert not own.keys() & control.keys()
    assert texts(control)["clip0", None] == texts(own)["clip1", None]


def test_without_a_question_all_questions_get_one_answer(listener, tmp_path) -> None:
    mute = texts(answer(listener, tmp_path, condition=Condition("no_question", Store(), asks=False)))
    assert mute["clip0", "What is the genre?"] == mute["clip0", "Which instruments play?"] == mute["clip0", None]
