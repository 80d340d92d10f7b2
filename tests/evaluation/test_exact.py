"""Exact answers: whole sentences compared by what they name."""

from types import SimpleNamespace

import pytest

from descant.data.demo import facts, load_demo
from descant.evaluation import exact_answer, majority_answers
from descant.evaluation.exact import exact_measures, is_closed


@pytest.mark.parametrize(
    ("prediction", "reference", "question_type"),
    [
        ("This is a rap song.", "hip-hop", "genre"),
        ("It is played on piano, a violin and drums.", "The instruments are drums, fiddle and piano.", "instruments"),
        ("The tempo is moderate.", "medium", "tempo_class"),
        ("It feels joyful.", "The mood is happy.", "mood"),
        ("Yes, there are drums.", "yes", "drums"),
        ("No, there are no drums.", "There are no drums.", "drums"),
        ("Something else", "something else!", None),
        ("A night at sea.", "night at sea", "genre"),
    ],
)
def test_answers_that_say_the_same_are_equal(prediction: str, reference: str, question_type: str | None) -> None:
    assert exact_answer(prediction, reference, question_type)


@pytest.mark.parametrize(
    ("prediction", "reference", "question_type"),
    [
        ("It could be jazz or rock.", "jazz", "genre"),
        ("piano", "piano and drums", "instruments"),
        ("piano, drums and flute", "piano and drums", "instruments"),
        ("It is not slow.", "slow", "tempo_class"),
        ("", "jazz", "genre"),
        ("There are no drums.", "Yes, there are drums.", "drums"),
        ("piano music", "piano", None),
    ],
)
def test_answers_that_say_more_less_or_other_things_differ(
    prediction: str, reference: str, question_type: str | None
) -> None:
    assert not exact_answer(prediction, reference, question_type)


def test_majority_answers_count_meanings_and_return_their_commonest_wording() -> None:
    answers = ["jazz", "It is rap.", "hip-hop", "It is rap.", "jazz"]
    rows = [SimpleNamespace(question_type="genre", answer=answer) for answer in answers]
    rows.append(SimpleNamespace(question_type=None, answer="A caption."))
    rows.append(SimpleNamespace(question_type="bass", answer="no"))
    assert majority_answers(rows) == {"genre": "It is rap.", "bass": "no"}


def test_exact_scores_count_closed_questions_only() -> None:
    kinds = ["genre", "genre", "mood", "long_use", None]
    texts = ["jazz", "rock", "happy", "x", "y"]
    wanted = [["a jazz piece"], ["jazz"], ["sad", "cheerful"], ["x"], ["y"]]
    scores = {measure.name: measure.value() for measure in exact_measures(texts, wanted, kinds)}
    assert scores == {"exact": pytest.approx(2 / 3), "exact_genre": 0.5, "exact_mood": 1.0}
    assert exact_measures(["y"], [["y"]], [None]) == []


def test_every_closed_answer_of_the_demo_corpus_says_its_fact() -> None:
    known = {fact["clip_id"]: fact for fact in facts()}
    rows = [row for rows in load_demo().values() for row in rows if is_closed(row.question_type)]
    assert len(rows) > 5000
    for row in rows:
        fact = known[row.clip_id][row.question_type].replace(";", ",")
        assert exact_answer(row.answer, fact, row.question_type), row
