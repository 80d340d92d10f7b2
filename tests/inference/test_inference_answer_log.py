"""The log of a long job: whole lines survive a kill, parts are gathered, the whole is written in one step."""

from pathlib import Path

import pytest

from descant.inference.answer_log import gather, write_log, write_part
from descant.inference.answers import Answer


def answer(name: str, prediction: str = "Jazz.") -> Answer:
    return Answer(name, name, f"{name}.wav", 0.0, 10.0, "Which genre?", "model", {}, prediction=prediction)


def append(log: Path, process: int, *answers: Answer) -> None:
    write_part(log, process, enumerate(answers), lambda shown: None)


def test_the_parts_of_all_processes_are_gathered(tmp_path: Path) -> None:
    log = tmp_path / "new folder" / "answers.jsonl"
    append(log, 0, answer("a"), answer("b"))
    append(log, 1, answer("c"))
    assert [record["id"] for record in gather(log)] == ["a", "b", "c"]


def test_an_answer_is_on_disk_before_it_is_shown(tmp_path: Path) -> None:
    log, seen = tmp_path / "answers.jsonl", []
    part = tmp_path / "answers.jsonl.part-0"
    two = enumerate([answer("a"), answer("b")])
    write_part(log, 0, two, lambda shown: seen.append(part.read_bytes().count(b"\n")))
    assert seen == [1, 2]


def test_what_another_run_is_writing_is_left_alone(tmp_path: Path) -> None:
    log, part = tmp_path / "answers.jsonl", tmp_path / "answers.jsonl.part-0"

    def disturb(shown: Answer) -> None:
        for meddle in (lambda: gather(log), lambda: write_log(log, []), lambda: append(log, 0, answer("c"))):
            with pytest.raises(ValueError, match="part-0: another run writes here"):
                meddle()

    write_part(log, 0, enumerate([answer("a"), answer("b")]), disturb)
    assert part.exists() and [record["id"] for record in gather(log)] == ["a", "b"]


def test_the_half_line_of_a_kill_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "answers.jsonl"
    append(log, 0, answer("a"), answer("b"))
    part = tmp_path / "answers.jsonl.part-0"
    part.write_bytes(part.read_bytes()[:-5])
    assert [record["id"] for record in gather(log)] == ["a"]


def test_the_last_record_of_an_id_counts_and_parts_go_when_the_log_holds_them(tmp_path: Path) -> None:
    log = tmp_path / "answers.jsonl"
    write_log(log, [{**gather_one(tmp_path, answer("a", "Rock."))}])
    append(log, 0, answer("a", "Jazz."))
    records = gather(log)
    assert [record["prediction"] for record in records] == ["Jazz."]
    write_log(log, records)
    assert [path.name for path in tmp_path.iterdir()] == ["answers.jsonl"] and gather(log) == records


def gather_one(folder: Path, one: Answer) -> dict[str, object]:
    append(folder / "other.jsonl", 0, one)
    (record,) = gather(folder / "other.jsonl")
    (folder / "other.jsonl.part-0").unlink()
    return record


def test_the_parts_of_another_log_are_left_alone(tmp_path: Path) -> None:
    append(tmp_path / "other.jsonl", 0, answer("a"))
    write_log(tmp_path / "answers.jsonl", [])
    assert gather(tmp_path / "answers.jsonl") == [] and len(gather(tmp_path / "other.jsonl")) == 1


@pytest.mark.parametrize("line", ["no json", "[1]", '{"id": "a"}', '{"text": "x"}'])
def test_a_file_of_other_things_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "answers.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match="line 1 is no answer"):
        gather(tmp_path / "answers.jsonl")
