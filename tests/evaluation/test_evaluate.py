"""Questions of a split, and their answers over processes and runs."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from tiny import build_tiny_model

from descant.answering.answer_log import AnswerLog
from descant.answering.listener import Listener
from descant.data.annotations import Row
from descant.evaluation.controls import Condition
from descant.evaluation.evaluate import (
    Question,
    Share,
    answer_questions,
    draft_answer,
    finish_answer,
    gather_questions,
    keep_common,
    read_trained_clips,
)
from descant.evaluation.predictions_file import Item
from descant.models import box

QUESTIONS = [
    Question(f"clip{clip}", 0.0, 10.0, question, "genre", ("jazz",))
    for clip in range(5) for question in ("What is the genre?", None, "Which instruments play?")
]  # fmt: skip


class Store:
    """Random features by clip; each clip is hashed by its recording, which is its name where none is given."""

    def __init__(self, **recordings: int) -> None:
        self.recordings = recordings

    def read(self, clip_id: str, out=None) -> np.ndarray:
        generator = np.random.default_rng(int(self.feature_sha256(clip_id)))
        return generator.normal(-40, 20, size=(128, 1001)).astype(np.float32)

    def feature_sha256(self, clip_id: str) -> str:
        return str(self.recordings.get(clip_id, clip_id.removeprefix("clip")))


@pytest.fixture(scope="module")
def listener() -> Listener:
    return Listener(*build_tiny_model(), "tiny")


def answer(listener, folder, share=None, batch_size=1, condition=None, questions=QUESTIONS) -> dict[str, dict]:
    condition = condition or Condition("own", Store())
    log = AnswerLog(folder, condition.name, "f", share.process if share else 0)
    answer_questions(listener, questions, condition, log, batch_size, share or Share())
    return finished(listener, folder, condition, questions)


def finished(listener, folder, condition=None, questions=QUESTIONS) -> dict[str, dict]:
    """The records of all questions whose answers are kept, by id."""
    condition = condition or Condition("own", Store())
    log, found = AnswerLog(folder, condition.name, "f"), {}
    for question in questions:
        key = draft_answer(listener, question, condition).id
        if (key, condition.heard_hash(question.clip_id)) in log.known:
            found[key] = asdict(finish_answer(listener, question, condition, log))
    return found


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


def test_a_kept_answer_takes_references_and_types_of_today(listener, tmp_path, monkeypatch) -> None:
    before = answer(listener, tmp_path)
    monkeypatch.setattr(listener.model, "answer_many", None)
    mended = [replace(one, references=("blues", "swing"), question_type="mood") for one in QUESTIONS]
    after = answer(listener, tmp_path, questions=mended)
    assert texts(after) == texts(before)
    assert {(*one["references"], one["question_type"]) for one in after.values()} == {("blues", "swing", "mood")}


def test_answers_about_other_audio_are_asked_for_again(listener, tmp_path, monkeypatch) -> None:
    before = answer(listener, tmp_path)
    changed = Condition("own", Store(clip0=7))
    after = answer(listener, tmp_path, condition=changed)
    assert after.keys() == before.keys()
    assert {clip for (clip, question), text in texts(after).items() if text != texts(before)[clip, question]} == {
        "clip0"
    }
    monkeypatch.setattr(listener.model, "answer_many", None)
    assert answer(listener, tmp_path) == before and answer(listener, tmp_path, condition=changed) == after


def test_a_run_that_broke_off_goes_on_to_the_same_answers(listener, tmp_path, monkeypatch) -> None:
    whole = answer(listener, tmp_path / "whole")
    log, done = AnswerLog(tmp_path / "broken", "own", "f"), []

    def break_off(answers, heard) -> None:
        if done:
            raise KeyboardInterrupt
        done.append(AnswerLog.append(log, answers, heard))

    monkeypatch.setattr(log, "append", break_off)
    with pytest.raises(KeyboardInterrupt):
        answer_questions(listener, QUESTIONS, Condition("own", Store()), log, 1, Share())
    assert 0 < len(finished(listener, tmp_path / "broken")) < len(QUESTIONS)
    assert answer(listener, tmp_path / "broken") == whole


def test_a_control_has_ids_of_its_own(listener, tmp_path) -> None:
    own = answer(listener, tmp_path)
    control = answer(listener, tmp_path, condition=Condition("shuffled", Store(), heard={"clip0": "clip1"}))
    assert not own.keys() & control.keys()
    assert texts(control)["clip0", None] == texts(own)["clip1", None]


def test_without_a_question_all_questions_get_one_answer(listener, tmp_path) -> None:
    mute = texts(answer(listener, tmp_path, condition=Condition("no_question", Store(), asks=False)))
    assert mute["clip0", "What is the genre?"] == mute["clip0", "Which instruments play?"] == mute["clip0", None]


class FailingModel:
    """Fails on whatever batch holds one clip, and gives no finite score for another."""

    def __init__(self, model) -> None:
        self.model = model

    def answer_many(self, pairs, **settings):
        pairs = list(pairs)
        if any(clip == "clip3" for clip, _, _ in pairs):
            raise RuntimeError("the size of tensor a must match")
        for index, tokens, score in self.model.answer_many(pairs, **settings):
            yield index, tokens, float("nan") if pairs[index][0] == "clip1" else score


def test_whatever_a_question_raises_is_its_own_error(listener, tmp_path, monkeypatch) -> None:
    whole = answer(listener, tmp_path / "whole")
    monkeypatch.setattr(listener, "model", FailingModel(listener.model))
    found = answer(listener, tmp_path / "failing")
    errors = {one["clip_id"]: one["error"] for one in found.values() if one["error"]}
    assert errors.keys() == {"clip1", "clip3"}
    assert "the size of tensor a must match" in errors["clip3"] and "no finite numbers" in errors["clip1"]
    assert all(one["prediction"] is None for one in found.values() if one["error"])
    rest = {key: one["prediction"] for key, one in found.items() if not one["error"]}
    assert rest == {key: whole[key]["prediction"] for key in rest} and len(rest) == 9


def test_features_that_cannot_be_read_are_the_error_of_their_questions(listener, tmp_path) -> None:
    class Damaged(Store):
        def read(self, clip_id: str, out=None) -> np.ndarray:
            if clip_id == "clip2":
                raise ValueError("the record was changed on disk")
            return super().read(clip_id)

    found = answer(listener, tmp_path, condition=Condition("own", Damaged()))
    errors = [one["error"] for one in found.values() if one["clip_id"] == "clip2"]
    assert errors == ["the record was changed on disk"] * 3
    assert not any(one["error"] for one in found.values() if one["clip_id"] != "clip2")


def test_questions_that_failed_are_asked_again(listener, tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(listener, "model", FailingModel(listener.model))
        answer(listener, tmp_path)
    assert all(one["prediction"] is not None for one in answer(listener, tmp_path).values())


def test_only_what_every_condition_answered_is_compared() -> None:
    own = [Item("a", ("r",), clip, 0.0, "q") for clip in ("x", "y", "z")]
    found = keep_common({"own": own, "noise": own[1:], "silence": own[:2]})
    assert [[item.clip for item in items] for items in found.values()] == [["y"]] * 3


def test_the_model_in_the_box_says_what_it_was_trained_on() -> None:
    assert "[d22tbz5im2v]-[0-10]" in read_trained_clips(box.NAME, box.FOLDER)
