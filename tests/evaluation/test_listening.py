"""The three accuracies: own audio, no audio, another clip's audio."""

import numpy as np
import pytest

from descant.data.annotations import Row
from descant.evaluation import listening
from descant.evaluation.listening import as_dict, format_listening, measure_listening

GENRES = ["jazz", "rock", "folk", "jazz"]
ROWS = [Row(f"c{clip}", "genre?", genre, "genre", "own", 0, 10) for clip, genre in enumerate(GENRES)]
ROWS.append(Row("c0", "use?", "a film", "long_use", "own", 0, 10))


def answer_truly(model, processor, rows, features, *, heard=None, **_) -> list[str]:
    """A listener that names the genre of what it hears."""
    truth = {row.clip_id: row.answer for row in ROWS[:4]}
    return [truth[heard[row.clip_id] if heard else row.clip_id] for row in rows]


def answer_deafly(model, processor, rows, features, **_) -> list[str]:
    return ["jazz"] * len(rows)


def report(monkeypatch: pytest.MonkeyPatch, answer) -> listening.ListeningReport:
    monkeypatch.setattr(listening, "answer_rows", answer)
    return measure_listening(None, None, ROWS, ROWS, None, derangements=3)


def test_a_listener_loses_its_score_with_other_audio(monkeypatch) -> None:
    found = report(monkeypatch, answer_truly)
    assert (found.own.value, found.deaf.value) == (100, 50)
    assert found.other.value < 50


def test_a_deaf_model_keeps_its_score(monkeypatch) -> None:
    found = report(monkeypatch, answer_deafly)
    assert found.own.value == found.deaf.value == found.other.value == 50
    assert found.own.low < 50 < found.own.high


def test_only_closed_questions_count(monkeypatch) -> None:
    assert len(report(monkeypatch, answer_deafly).rows) == 4


def test_the_report_is_readable_and_saveable(monkeypatch) -> None:
    found = report(monkeypatch, answer_truly)
    text = format_listening(found, "Title")
    assert "Title: exact answers to 4 closed questions" in text and "genre" in text
    numbers = as_dict(found)
    assert numbers["n"] == 4 and numbers["own"]["value"] == 100
    assert np.allclose(numbers["by_type"]["genre"][0], 100)
