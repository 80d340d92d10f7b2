"""Kept answers: whole lines, torn lines, other weights, other audio."""

from dataclasses import replace
from pathlib import Path

import pytest

from descant.answering.answer_log import AnswerLog, read_log, write_log, write_part
from descant.answering.listener import Answer
from descant.answering.model_folder import fingerprint_model


def answer(key: str, prediction: str = "yes") -> Answer:
    return Answer(key, "clip", "clip", 0.0, 10.0, "q?", "model", {}, prediction=prediction, score=-0.5)


def keep(log: AnswerLog, *keys: str, heard: str = "sound") -> None:
    log.append([answer(key) for key in keys], [heard] * len(keys))


def ids(log: AnswerLog) -> set[str]:
    return {key for key, _ in log.known}


def test_kept_answers_are_known_to_the_next_run(tmp_path) -> None:
    keep(AnswerLog(tmp_path, "own", "f1"), "a", "b")
    given = {"prediction": "yes", "score": -0.5, "error": None}
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
    log.part.path.write_bytes(log.part.path.read_bytes()[:-30])
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


def make_answer(name: str, prediction: str = "Jazz.") -> Answer:
    return Answer(name, name, f"{name}.wav", 0.0, 10.0, "Which genre?", "model", {}, prediction=prediction)


def append(log: Path, process: int, *answers: Answer) -> None:
    write_part(log, process, enumerate(answers), lambda shown: None)


def test_the_parts_of_all_processes_are_gathered(tmp_path: Path) -> None:
    log = tmp_path / "new folder" / "answers.jsonl"
    append(log, 0, make_answer("a"), make_answer("b"))
    append(log, 1, make_answer("c"))
    assert [record["id"] for record in read_log(log)] == ["a", "b", "c"]


def test_an_answer_is_on_disk_before_it_is_shown(tmp_path: Path) -> None:
    log, seen = tmp_path / "answers.jsonl", []
    part = tmp_path / "answers.jsonl.part-0"
    two = enumerate([make_answer("a"), make_answer("b")])
    write_part(log, 0, two, lambda shown: seen.append(part.read_bytes().count(b"\n")))
    assert seen == [1, 2]


def test_what_another_run_is_writing_is_left_alone(tmp_path: Path) -> None:
    log, part = tmp_path / "answers.jsonl", tmp_path / "answers.jsonl.part-0"

    def disturb(shown: Answer) -> None:
        for meddle in (lambda: read_log(log), lambda: write_log(log, []), lambda: append(log, 0, make_answer("c"))):
            with pytest.raises(ValueError, match="part-0: another run writes here"):
                meddle()

    write_part(log, 0, enumerate([make_answer("a"), make_answer("b")]), disturb)
    assert part.exists() and [record["id"] for record in read_log(log)] == ["a", "b"]


def test_the_half_line_of_a_kill_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "answers.jsonl"
    append(log, 0, make_answer("a"), make_answer("b"))
    part = tmp_path / "answers.jsonl.part-0"
    part.write_bytes(part.read_bytes()[:-5])
    assert [record["id"] for record in read_log(log)] == ["a"]


def test_the_last_record_of_an_id_counts_and_parts_go_when_the_log_holds_them(tmp_path: Path) -> None:
    log = tmp_path / "answers.jsonl"
    write_log(log, [{**gather_one(tmp_path, make_answer("a", "Rock."))}])
    append(log, 0, make_answer("a", "Jazz."))
    records = read_log(log)
    assert [record["prediction"] for record in records] == ["Jazz."]
    write_log(log, records)
    assert [path.name for path in tmp_path.iterdir()] == ["answers.jsonl"] and read_log(log) == records


def gather_one(folder: Path, one: Answer) -> dict[str, object]:
    append(folder / "other.jsonl", 0, one)
    (record,) = read_log(folder / "other.jsonl")
    (folder / "other.jsonl.part-0").unlink()
    return record


def test_the_parts_of_another_log_are_left_alone(tmp_path: Path) -> None:
    append(tmp_path / "other.jsonl", 0, make_answer("a"))
    write_log(tmp_path / "answers.jsonl", [])
    assert read_log(tmp_path / "answers.jsonl") == [] and len(read_log(tmp_path / "other.jsonl")) == 1


@pytest.mark.parametrize("line", ["no json", "[1]", '{"id": "a"}', '{"text": "x"}'])
def test_a_file_of_other_things_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "answers.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=r"answers\.jsonl: (line 1 is no JSON object|a line is no answer)"):
        read_log(tmp_path / "answers.jsonl")


def test_an_answer_stands_before_an_error_of_whichever_part(tmp_path) -> None:
    failed = replace(answer("a"), prediction=None, score=None, error="too long")
    AnswerLog(tmp_path, "own", "f1", process=1).append([failed], ["sound"])
    assert AnswerLog(tmp_path, "own", "f1").known["a", "sound"]["error"] == "too long"
    keep(AnswerLog(tmp_path, "own", "f1"), "a")
    assert AnswerLog(tmp_path, "own", "f1").known["a", "sound"]["prediction"] == "yes"
