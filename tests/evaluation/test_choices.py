"""Multiple-choice benchmarks: their published forms, orders of the options, refusals, controls, resumed runs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile
from tiny import climb, save_tiny_decider

from descant.answering.listener import Listener
from descant.cli import main
from descant.data.splits import ClipHashes, LeakError
from descant.data.storage import Source
from descant.evaluation import benchmark_run
from descant.evaluation.benchmark_run import BenchmarkSettings, check_training, run_benchmark
from descant.evaluation.benchmarks import (
    HUB,
    Benchmark,
    ChoiceItem,
    read_benchmark,
    read_demo,
    read_file,
    read_question,
)
from descant.evaluation.choice_scores import render_choices
from descant.evaluation.choosing import Asked, Choice, ListenerChooser, make_noise, read_letter, rotate

GENRES = ("rock", "jazz", "piano")


@pytest.mark.parametrize(
    "record",
    [
        {"question": "Which genre?", "choices": ["rock", "jazz", "pop"], "answer": "Jazz"},
        {"question": "Which genre?", "choices": '["rock", "jazz", "pop"]', "answer": "jazz", "task": "music"},
        {"instruction": "Which genre?", "choices": "(A) rock (B) jazz (C) pop", "answer": "(B) jazz"},
        {"prompt": "Question: Which genre?\n Options: (A) rock (B) jazz (C) pop \n The correct answer is: ",
         "answers": ["rock", "jazz", "pop"], "answer_orders": [2, 0, 1]},
    ],
)  # fmt: skip
def test_a_question_is_read_in_every_published_form(record: dict[str, Any]) -> None:
    assert read_question(record) == ("Which genre?", ("rock", "jazz", "pop"), 1)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"question": "Q?", "choices": ["a", "b"], "answer": "c"}, "is not one of the options"),
        ({"question": "Q?", "choices": ["a", "a"], "answer": "b"}, "is not one of the options"),
        ({"question": "Q?", "choices": ["a", "b", "b"], "answer": "a"}, "3 options"),
        ({"question": " ", "choices": ["a", "b"], "answer": "a"}, "the question is empty"),
        ({"instruction": "Q?", "choices": "(A) a (B) b", "answer": "(C) c"}, "has the letter of none"),
    ],
)
def test_what_is_no_question_says_why(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_question(record)


@pytest.fixture(scope="module")
def quiz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three songs, and a file of questions about them in MMAU's form; one record is broken."""
    folder = tmp_path_factory.mktemp("quiz")
    rows: list[dict[str, Any]] = []
    for number in range(3):
        soundfile.write(folder / f"s{number}.wav", climb(10.0, 16_000, 110.0 * 1.5**number), 16_000)
        for question, choices in (("What is the genre?", list(GENRES)), ("Are there drums?", ["drums", "no drums"])):
            row = {"audio_id": f"./x/s{number}.wav", "question": question, "choices": choices, "answer": choices[1]}
            rows.append(row | {"id": f"{number}{len(choices)}", "task": "music", "sub-category": question})
    rows.append({**rows[0], "question": "Who composed it?", "choices": ["Ann", "Bob"], "answer": "Ann", "id": "who"})
    rows.append({**rows[0], "id": "lost", "audio_id": "gone.wav"})
    (folder / "quiz.json").write_text(json.dumps([*rows, {**rows[0], "task": "speech", "id": "talk"}]))
    return folder


def test_records_become_items_or_problems_and_one_sound_is_one_clip(quiz: Path) -> None:
    read = list(read_file(quiz / "quiz.json", str(quiz), task="music"))
    items = [one for one in read if isinstance(one, ChoiceItem)]
    assert [item.id for item in items] == ["03", "02", "13", "12", "23", "22", "who"]
    assert len({item.clip for item in items}) == 3 and items[0].clip == items[1].clip
    (problem,) = [one for one in read if not isinstance(one, ChoiceItem)]
    assert "gone.wav: no such sound file: pass --audio_dir" in str(problem)


def test_rows_of_parquet_hold_their_sounds(quiz: Path, tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    sounds = [{"bytes": (quiz / f"s{number}.wav").read_bytes(), "path": None} for number in (0, 1, 0)]
    table = {"context": sounds, "instruction": ["Which genre?"] * 3, "choices": ["(A) rock (B) jazz"] * 3,
             "answer": ["(A) rock", "(B) jazz", "(C) pop"]}  # fmt: skip
    parquet.write_table(pyarrow.table(table), tmp_path / "test-0.parquet")
    benchmark = read_benchmark(str(tmp_path / "test-0.parquet"))
    assert [item.right for item in benchmark.items] == [0, 1] and len(benchmark.problems) == 1
    assert benchmark.items[1].audio == f"{tmp_path / 'test-0.parquet'}::1"
    assert len({item.clip for item in benchmark.items}) == 2


def test_a_published_row_stands_beside_the_model_s(tmp_path: Path) -> None:
    assert all(one.published and one.published.source.startswith("https://") for one in HUB.values())
    benchmark = Benchmark("b", items(), published=HUB["mmau_music"].published)
    result = run_benchmark(Scripted(lambda *_: Choice("a")), benchmark, BenchmarkSettings("b", tmp_path))
    assert "| Qwen2-Audio-Instruct | MMAU test-mini, music" in render_choices(result)


def test_an_unknown_benchmark_is_refused() -> None:
    with pytest.raises(ValueError, match="--benchmark nowhere: no such file; known by name are demo, muchomusic"):
        read_benchmark("nowhere")


def test_the_demo_asks_single_terms_among_those_of_their_type() -> None:
    items = list(read_demo())
    assert items == list(read_demo()) and all(Path(item.audio).is_file() for item in items[:3])
    assert {len(item.options) for item in items} == {2, 3, 4}
    assert all(item.topic != "drums" or set(item.options) == {"drums", "no drums"} for item in items)
    share = sum(item.right == 0 for item in items if len(item.options) == 4)
    assert 0.15 < share / sum(len(item.options) == 4 for item in items) < 0.35


# Asking


class Scripted:
    """Chooses by a rule of the shown options, and counts what it is asked."""

    name = fingerprint = "scripted"
    workers = 1

    def __init__(self, rule: Any) -> None:
        self.rule, self.heard = rule, []  # type: ignore[var-annotated]

    def choose(self, audio: Source, asked: Sequence[Asked]) -> list[Choice]:
        self.heard += [(audio, one.options) for one in asked]
        return [self.rule(audio, one.options) for one in asked]


def items(clips: int = 4) -> list[ChoiceItem]:
    return [ChoiceItem(str(n), f"clip{n}", f"s{n}.wav", "Which?", ("a", "b", "c", "d"), n % 4) for n in range(clips)]


def run(rule: Any, folder: Path, **settings: Any) -> tuple[dict[str, Any], Scripted]:
    chooser = Scripted(rule)
    return run_benchmark(chooser, Benchmark("b", items()), BenchmarkSettings("b", folder, **settings)), chooser


def test_options_are_rotated_and_a_model_that_says_a_is_found_out(tmp_path: Path) -> None:
    assert rotate("abcd", 1) == ("b", "c", "d", "a") and rotate("abcd", 5) == rotate("abcd", 1)
    result, chooser = run(lambda _, options: Choice(options[0]), tmp_path)
    assert [one["accuracy"] for one in result["rotations"]] == [0.25] * 4
    assert result["changed"] == 1.0 and result["accuracy"] == 0.25 == result["chance"]
    assert len(set(chooser.heard)) == 16
    assert "changes with the order for 100.0% of the items" in render_choices(result)


def test_a_model_that_knows_is_the_same_in_every_order(tmp_path: Path) -> None:
    right = {item.audio: item.options[item.right] for item in items()}
    result, _ = run(lambda audio, _: Choice(right.get(audio, "a")), tmp_path, controls=True)
    assert (result["accuracy"], result["changed"], result["refused"]) == (1.0, 0.0, 0.0)
    assert set(result["controls"]) == {"shuffled", "noise", "silence"}
    assert result["controls"]["shuffled"]["accuracy"] == 0.0 and result["controls"]["shuffled"]["gap"] == 1.0
    assert result["controls"]["silence"]["accuracy"] == 0.25


def test_refused_answers_are_wrong_and_counted_apart_and_errors_are_left_out(tmp_path: Path) -> None:
    def rule(audio: Source, options: Sequence[str]) -> Choice:
        if audio == "s0.wav":
            return Choice(said="I am not sure.")
        return Choice(error="status 500") if audio == "s1.wav" else Choice("c" if audio == "s2.wav" else "d")

    result, _ = run(rule, tmp_path)
    assert (result["n"], result["skipped"], result["answers"], result["refused_answers"]) == (3, 1, 12, 4)
    assert result["accuracy"] == pytest.approx(2 / 3) and result["accuracy_answered"] == 1.0
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert {line["chosen"] for line in lines if line["id"] == "0"} == {None}
    assert "4 of 12 answers were refused" in (tmp_path / "results.md").read_text()


def test_a_run_goes_on_where_it_ended_and_asks_failures_again(tmp_path: Path) -> None:
    run(lambda audio, _: Choice(error="x") if audio == "s3.wav" else Choice("a"), tmp_path, rotations=2)
    result, chooser = run(lambda audio, _: Choice("a"), tmp_path, rotations=3)
    assert result["skipped"] == 0
    assert sorted(audio for audio, _ in chooser.heard) == ["s0.wav", "s1.wav", "s2.wav", *["s3.wav"] * 3]
    with pytest.raises(ValueError, match="none of the 4 questions was answered: 0: down"):
        run(lambda *_: Choice(error="down"), tmp_path / "other")


# descant's own models


def test_clips_that_a_model_was_trained_on_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = {"[abcdefghijk]-[0-10]": ClipHashes("f", "a" * 64 + ":0-10")}
    monkeypatch.setattr(benchmark_run, "read_trained_clips", lambda *_: trained)
    same_file, same_recording, other = ("a" * 16, "[abcdefghijk]-[10-20]", "b" * 16)
    asked = [ChoiceItem("1", clip, f"{clip}.wav", "?", ("a", "b"), 0) for clip in (same_file, same_recording, other)]
    with pytest.raises(LeakError, match="trained on 2 of these clips, a{16}.wav among them.*--allow_leak"):
        check_training("box", asked)
    assert check_training("box", asked, allowed=True) == {"checked": True, "clips": 2}
    assert check_training("box", asked[2:]) == {"checked": True, "clips": 0}


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Listener:
    return Listener.load(str(save_tiny_decider(tmp_path_factory.mktemp("tiny") / "model")), device="cpu")


def test_options_are_chosen_by_probability_and_what_was_not_trained_is_refused(quiz: Path, listener: Listener) -> None:
    chooser = ListenerChooser(listener, "x")
    asked = [Asked("What is the genre?", GENRES), Asked("What is the genre?", rotate(GENRES, 1)),
             Asked("Who composed it?", ("Ann", "Bob"))]  # fmt: skip
    first, turned, unknown = chooser.choose(str(quiz / "s0.wav"), asked)
    question = {"g": {"type": "choice", "instructions": "What is the genre?", "criteria": dict.fromkeys(GENRES)}}
    decided = listener.decide(str(quiz / "s0.wav"), question)["g"]["probabilities"]
    assert first.chosen == max(decided, key=decided.__getitem__)
    assert first.probability == pytest.approx(decided[first.chosen], abs=1e-5)
    assert turned.chosen == first.chosen and turned.probability == pytest.approx(first.probability, abs=1e-5)
    assert unknown == Choice(said="unlike training")
    assert {one.chosen for one in chooser.choose(make_noise("c"), asked)} == {None}


def test_words_are_read_by_the_parser_and_nothing_is_guessed(quiz: Path, listener: Listener) -> None:
    assert read_letter("(B)", GENRES).chosen == "jazz" and read_letter("Perhaps.", GENRES).chosen is None
    (choice,) = ListenerChooser(listener, "x", by_words=True).choose(
        str(quiz / "s0.wav"), [Asked("What is the genre?", GENRES)]
    )
    prompt = "What is the genre?\n(A) rock\n(B) jazz\n(C) piano\n"
    prompt += "Answer with the option's letter from the given choices directly."
    assert choice == read_letter(str(listener.ask(str(quiz / "s0.wav"), prompt).prediction), GENRES)


def test_the_command_reports_in_json_and_as_a_table(
    quiz: Path, listener: Listener, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Listener, "load", lambda *_, **__: listener)
    arguments = ["evaluate", "--benchmark", str(quiz / "quiz.json"), "--output_dir", str(tmp_path), "--controls",
                 "--audio_dir", str(quiz)]  # fmt: skip
    assert main(arguments) == 1  # one record's sound is not there
    shown = capsys.readouterr().out
    result = json.loads((tmp_path / "scores.json").read_text())
    assert (result["n"], result["clips"], result["bad_records"]) == (8, 3, 1)
    assert result["changed"] == 0.0 and result["refused_answers"] == 2  # who composed it, in two orders
    assert result["controls"]["silence"]["refused"] == 1.0
    assert "| rotated by | accuracy | refused |" in shown and "| shuffled |" in shown
    assert main([*arguments, "--split", "train"]) == 2
    assert "--split does nothing for multiple-choice questions" in capsys.readouterr().err
    assert main(["evaluate", "--dataset", "demo", "--protocol", "musilingo", "--rotations", "2"]) == 2
    assert "--rotations does nothing without multiple-choice questions" in capsys.readouterr().err
    assert main([*arguments, "--parallel", "2"]) == 2
    assert "--parallel does nothing without --endpoint" in capsys.readouterr().err
    remote = ["evaluate", "--endpoint", "http://127.0.0.1:9/v1", "--model", "m", "--dataset", "demo", "--protocol"]
    assert main([*remote, "musilingo", "--features", "elsewhere"]) == 2
    assert "--features does nothing with --endpoint" in capsys.readouterr().err
    assert main(["evaluate", "--dataset", "demo"]) == 2
