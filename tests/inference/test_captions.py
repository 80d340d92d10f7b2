"""Captions: the order of answers, their stamps, and a CSV with the reference's columns."""

import csv
import io
import random

import pytest

from descant.inference.captions import format_captions, join_answers, order_records

QUESTIONS = ("Which genre?", "Which mood?")


def record(audio: str, start_s: float | None, question: str | None, text: str | None = None) -> dict[str, object]:
    end_s = None if start_s is None else start_s + 10
    error = "does not exist" if start_s is None else None
    place = {"audio": audio, "start_s": start_s, "end_s": end_s}
    return {**place, "question": question, "prediction": text, "error": error}


IN_ORDER = [
    record("b.wav", 0.0, "Which genre?", "Jazz."),
    record("b.wav", 0.0, "Which mood?", 'A "calm",\nlate mood.'),
    record("b.wav", 10.0, "Which genre?", "Rock."),
    record("b.wav", 100.0, "Which genre?", "Folk."),
    record("a.wav", None, None),
    record("gone.wav", 0.0, "Which genre?", "Ska."),
]


@pytest.mark.parametrize("seed", range(5))
def test_records_come_in_the_order_of_recordings_windows_and_questions(seed: int) -> None:
    shuffled = random.Random(seed).sample(IN_ORDER, len(IN_ORDER))
    assert order_records(shuffled, ["b.wav", "a.wav"], QUESTIONS) == IN_ORDER


def test_answers_stand_under_the_stamp_of_their_window() -> None:
    expected = '[0:00–0:10] Jazz. A "calm", late mood. [0:10–0:20] Rock. [1:40–1:50] Folk.'
    assert join_answers(IN_ORDER[:4]) == expected


def test_the_csv_has_a_row_for_each_recording_that_was_heard() -> None:
    rows = list(csv.DictReader(io.StringIO(format_captions(IN_ORDER))))
    assert [row["audio_path"] for row in rows] == ["b.wav", "gone.wav"]
    assert list(rows[0]) == ["audio_path", "caption"] and rows[1]["caption"] == "[0:00–0:10] Ska."
