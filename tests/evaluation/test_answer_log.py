"""Kept answers: whole lines, torn lines, other weights, other audio."""

import pytest

from descant.evaluation.answer_log import AnswerLog, write_lines
from descant.inference.answers import Answer
from descant.inference.model_folder import fingerprint_model


def answer(key: str, prediction: str = "yes") -> Answer:
    return Answer(key, "clip", "clip", 0.0, 10.0, "q?", "model", {}, prediction=prediction, score=-0.5)


def keep(log: AnswerLog, *keys: str, heard: str = "sound") -> None:
    log.append([answer(key) for key in keys], [heard] * len(keys))


def ids(log: AnswerLog) -> set[str]:
    return {key for key, _ in log.known}


def test_kept_answers_are_known_to_the_next_run(tmp_path) -> None:
    keep(AnswerLog(tmp_path, "own", "f1"), "a", "b")
    given = {"prediction": "yes", "score": -0.5}
    assert AnswerLog(tmp_path, "own", "f1").known == {("a", "sound"): given, ("b", "sound"): given}


def test_answers_about_several_sounds_are_all_known(tmp_path) -> None:
    keep(AnswerLog(tmp_path, "own", "f1", 1), "a", heard="one")
    keep(AnswerLog(tmp_path, "own", "f1", 0), "a", heard="two")
    assert AnswerLog(tmp_path, "own", "f1").known.keys() == {("a", "one"), ("a", "two")}


@pytest.mark.parametrize("separator", ["\u0085", "\u2028", "\u2029"])
def test_separators_that_json_leaves_as_they_are_end_no_line(tmp_path, separator) -> None:
    text = f"slow{separator}sad"
    AnswerLog(tmp_path, "own", "f1").append([answer("a", text)], ["sound"])
    assert AnswerLog(tmp_path, "own", "f1").known["a", "sound"]["prediction"] == text


def test_a_torn_line_is_left_out_and_the_next_one_is_whole(tmp_path) -> None:
    log = AnswerLog(tmp_path, "own", "f1")
    keep(log, "a", "b")
    log.part.write_bytes(log.part.read_bytes()[:-30])
    assert ids(AnswerLog(tmp_path, "own", "f1")) == {"a"}
    keep(AnswerLog(tmp_path, "own", "f1"), "c")
    assert ids(AnswerLog(tmp_path, "own", "f1")) == {"a", "c"}


def test_processes_keep_apart_and_see_each_other(tmp_path) -> None:
    first, second = AnswerLog(tmp_path, "own", "f1", 0), AnswerLog(tmp_path, "own", "f1", 1)
    keep(first, "a")
    keep(second, "b")
    first.refresh()
    assert ids(first) == {"a", "b"}


def test_answers_of_other_weights_or_conditions_are_not_known(tmp_path) -> None:
    keep(AnswerLog(tmp_path, "own", "f1"), "a")
    assert not AnswerLog(tmp_path, "own", "f2").known
    assert not AnswerLog(tmp_path, "noise", "f1").known


def test_the_fingerprint_follows_the_weights_and_not_the_scores(tmp_path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    (tmp_path / "config.json").write_text("{}")
    before = fingerprint_model(tmp_path)
    (tmp_path / "scores.json").write_text("[]")
    (tmp_path / "README.md").write_text("card")
    assert fingerprint_model(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert fingerprint_model(tmp_path) != before


def test_a_written_file_leaves_no_partial_behind(tmp_path) -> None:
    write_lines(tmp_path / "answers.jsonl", [{"a": "é"}, {"b": 1}])
    assert (tmp_path / "answers.jsonl").read_text(encoding="utf-8") == '{"a": "é"}\n{"b": 1}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["answers.jsonl"]
