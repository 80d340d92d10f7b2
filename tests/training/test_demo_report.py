"""The report at the end of a demo run: examples, accuracies, and how to ask the model."""

import json

import pytest

from descant.data.annotations import Row
from descant.training import demo_report
from descant.training.demo_report import format_examples, report_demo


class Model:
    decision_config = None

    def eval(self) -> None:
        pass

    def load_decisions(self, folder, arguments) -> None:
        pass


def make_rows(clips: int = 8) -> list[Row]:
    """Of each clip two closed questions, a long one and a caption."""
    asked = (
        ("Genre?", "jazz", "genre"),
        ("Mood?", "calm", "mood"),
        ("Describe it.", "A song.", "long_description"),
        (None, "A caption.", None),
    )
    return [Row(f"clip{number}", *one, "demo", 0, 10) for number in range(clips) for one in asked]


@pytest.fixture(autouse=True)
def always_jazz(monkeypatch):
    """The model answers `jazz`; the corpus and the accuracies are made up."""
    monkeypatch.setattr(demo_report, "answer_rows", lambda model, processor, rows, features, **_: ["jazz"] * len(rows))
    splits = {"train": [], "test": make_rows(), "test_grooves": make_rows()}
    monkeypatch.setattr(demo_report, "load_demo", lambda: splits)
    monkeypatch.setattr(demo_report, "measure_listening", lambda *_: "measured")
    monkeypatch.setattr(demo_report, "format_listening", lambda measured, title: f"{title}: {measured}")
    monkeypatch.setattr(demo_report, "as_record", lambda measured: {"accuracy": measured})


def test_six_clips_are_shown_with_a_closed_and_a_long_question_each():
    shown = format_examples(None, None, make_rows(), None, ["short", "long"])
    assert [shown.count(f"\nclip{n}  ") for n in range(8)] == [2] * 6 + [0] * 2
    assert (shown.count("(right)"), shown.count("(wrong)")) == (3, 3)  # of mood and genre, in turn
    assert shown.count("Describe it.") == 6


def test_questions_of_another_kind_than_the_model_was_trained_on_are_not_asked():
    assert "Describe it." not in format_examples(None, None, make_rows(), None, ["short"])
    captions = format_examples(None, None, make_rows(), None, ["captions"])
    assert captions.count("(caption)") == 6
    assert "Genre?" not in captions


def test_accuracies_of_both_test_splits_are_printed_and_saved(tmp_path, capsys):
    report_demo(Model(), None, None, tmp_path, {"short": {"test": make_rows()}})
    printed = capsys.readouterr().out
    assert "Known grooves in new keys: measured" in printed
    assert f'descant ask {tmp_path} SONG.mp3 -q "What is the genre of this song?"' in printed
    saved = json.loads((tmp_path / "listening.json").read_text())
    assert {split: record["accuracy"] for split, record in saved.items()} == dict.fromkeys(saved, "measured")
    assert list(saved) == ["test", "test_grooves"]


def test_of_a_captioner_captions_alone_are_reported(tmp_path, capsys):
    report_demo(Model(), None, None, tmp_path, {"captions": {"test": make_rows()}})
    printed = capsys.readouterr().out
    assert "(caption)" in printed
    assert f"descant ask {tmp_path} SONG.mp3\n" in printed
    assert not (tmp_path / "listening.json").exists()


def test_clips_that_the_run_did_not_read_are_not_reported(tmp_path, capsys, monkeypatch):
    heard = []
    monkeypatch.setattr(
        demo_report, "measure_listening", lambda model, processor, rows, *_: heard.append(rows) or "measured"
    )
    report_demo(Model(), None, None, tmp_path, {"short": {"test": make_rows(clips=3)}})
    assert {row.clip_id for rows in heard for row in rows} == {"clip0", "clip1", "clip2"}
    assert "clip3" not in capsys.readouterr().out
    report_demo(Model(), None, None, tmp_path, {"short": {"test": make_rows(clips=1)}})  # no other clip to hear
    assert len(heard) == 2


def test_claims_of_long_answers_that_contradict_an_answer_to_a_closed_question_are_counted(tmp_path, capsys):
    rows = [Row(f"clip{n}", "Genre?", ("jazz", "rock")[n % 2], "genre", "demo", 0, 10) for n in range(8)]
    report_demo(Model(), None, None, tmp_path, {"short": {"test": make_rows()}})
    saved = json.loads((tmp_path / "listening.json").read_text())
    assert saved["test"]["claims"]["value"] == 100 and saved["test"]["claims"]["n"] == 8
    assert "100.0  [100.0, 100.0] of 8, 1.0 an answer, 0 % of them grammatical" in capsys.readouterr().out
    found = demo_report.measure_claims(Model(), None, [*rows, *make_rows()[2::4]], None)
    assert found["value"] == 50 and found["low"] < 50 < found["high"]
    assert demo_report.measure_claims(Model(), None, rows, None) == {}
