"""Questions with lettered options, in the forms in which public benchmarks write them."""

import pytest

from descant.evaluation.multiple_choice import find_letter, read_options

TEXTS = {"A": "piano", "B": "bass guitar", "C": "guitar", "D": "no instrument, a voice"}
ASK = "\nAnswer with the option's letter from the given choices directly: "


@pytest.mark.parametrize(
    "written",
    [
        "(A) piano\n(B) bass guitar\n(C) guitar\n(D) no instrument, a voice",
        "A. piano\nB. bass guitar\nC. guitar\nD. no instrument, a voice",
        "(A) piano (B) bass guitar (C) guitar (D) no instrument, a voice",
        "['(A) piano', '(B) bass guitar', '(C) guitar', '(D) no instrument, a voice']",
    ],
)
def test_options_are_read_in_every_form_and_what_follows_them_is_left_out(written: str) -> None:
    assert read_options(f"Which instrument plays a solo?\n{written}{ASK}") == ("Which instrument plays a solo?", TEXTS)


@pytest.mark.parametrize("prompt", ["Is it in A. or in B flat?", "What is the mood?", "(B) rock (C) jazz", "(A) yes"])
def test_a_question_without_options_stays_as_it_is(prompt: str) -> None:
    assert read_options(prompt) == (prompt, {})


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"), ("(C)", "C"), ("C. guitar", "C"), ("The answer is (D).", "D"), ("It is a piano.", "A"),
        ("A bass guitar plays.", "B"),  # which contains "guitar"; and its "A" is no letter
        ("I am not sure.", None), ("", None), ("(A) or (B)", None), ("piano and guitar", None), ("E", None),
    ],
)  # fmt: skip
def test_a_letter_is_found_or_nothing_is_guessed(answer: str, letter: str | None) -> None:
    assert find_letter(answer, TEXTS) == letter
