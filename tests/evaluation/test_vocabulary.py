"""Vocabulary, novelty and length."""

import numpy as np
import pytest

from descant.evaluation.vocabulary import vocabulary_measures

TEXTS = ["The piano, softly.", "the Piano plays", "New words here now"]


def values(train: list[str] | None) -> dict[str, float]:
    return {measure.name: measure.value() for measure in vocabulary_measures(TEXTS, train)}


def test_words_are_counted_without_case_commas_and_full_stops() -> None:
    assert values(None)["vocab_size"] == 8


def test_novelty_is_measured_against_every_training_text() -> None:
    scores = values(["softly the piano", "the Piano plays"])
    assert scores["vocab_novelty"] == 4 / 8
    assert scores["caption_novelty"] == 2 / 3


def test_without_training_texts_no_novelty_is_claimed() -> None:
    assert set(values(None)) == {"vocab_size", "length_avg", "length_std"}


def test_lengths_are_words_between_spaces() -> None:
    scores = values(None)
    assert (scores["length_avg"], scores["length_std"]) == pytest.approx((np.mean([3, 3, 4]), np.std([3, 3, 4])))
