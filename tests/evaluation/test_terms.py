"""Finding terms in answers: wording, longest match, denial."""

import json

import pytest

from descant.evaluation import terms
from descant.evaluation.terms import find_terms, normalise, surface_forms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The Hip-Hop! ", "hip hop"),
        ("It's an 80's song.", "its 80s song"),
        ("4/4 and r&b", "4/4 and r&b"),
        ("piano/guitar", "piano guitar"),
        ("Café — fado", "cafe fado"),
    ],
)
def test_case_accents_articles_and_punctuation_do_not_matter(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_the_longest_wording_wins() -> None:
    assert find_terms("An electric guitar, a bass drum and synth bass.", "instruments") == {
        "electric guitar", "kick", "synth bass",
    }  # fmt: skip


def test_words_inside_other_words_are_not_terms() -> None:
    assert find_terms("A popular harpsichordist", "genre") == frozenset()
    assert find_terms("harpsichordist", "instruments") == frozenset()


def test_plurals_name_the_same_term() -> None:
    assert find_terms("two pianos and flutes", "instruments") == {"piano", "flute"}


def test_denied_terms_are_not_named() -> None:
    assert find_terms("There are no drums or percussion, only a piano.", "instruments") == {"piano"}
    assert find_terms("A guitar without any vocals", "instruments") == {"guitar"}


def test_metres_are_read_as_fractions_or_words() -> None:
    assert find_terms("It is in 3/4, a waltz.", "metre") == find_terms("Waltz time", "metre") == {"3/4"}
    assert find_terms("13/4", "metre") == frozenset()


def test_lead_instruments_share_the_instruments_table() -> None:
    assert find_terms("The sax leads.", "lead_instrument") == {"saxophone"}


def test_an_unknown_type_has_no_terms() -> None:
    assert find_terms("a piano", "long_use") == frozenset()


def test_every_wording_of_the_table_leads_to_its_canonical_answer() -> None:
    table = json.loads(terms.files("descant.evaluation").joinpath("synonyms.json").read_text(encoding="utf-8"))
    for question_type, answers in table.items():
        if isinstance(answers, dict):
            wordings = [normalise(word) for canonical, words in answers.items() for word in (canonical, *words)]
            assert len(wordings) == len(set(wordings)), f"{question_type} gives one wording two meanings"
            assert all(find_terms(word, question_type) == {surface_forms(question_type)[word]} for word in wordings)
