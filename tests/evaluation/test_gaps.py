"""Gaps between the right audio and the controls, in numbers and words."""

import numpy as np

from descant.evaluation.gaps import explain_gaps, measure_gaps
from descant.evaluation.measures import Distinct, mean_of

CLIPS = [f"c{i}" for i in range(60)]
NOISE = np.random.default_rng(0).random(60) * 0.2


def gaps_of(own: np.ndarray, **controls: np.ndarray) -> dict:
    return measure_gaps([mean_of("exact", own)], {name: [mean_of("exact", c)] for name, c in controls.items()}, CLIPS)


def test_a_score_that_needs_the_audio_is_called_so() -> None:
    (sentence,) = explain_gaps(gaps_of(NOISE + 0.7, shuffled=NOISE[::-1] + 0.2, silence=NOISE))
    assert sentence.startswith("exact depends on the audio: 0.") and "with another clip's audio" in sentence


def test_a_score_that_stays_without_the_audio_is_explained_by_text_alone() -> None:
    (sentence,) = explain_gaps(gaps_of(NOISE + 0.5, shuffled=NOISE[::-1] + 0.5, noise=NOISE))
    assert sentence.startswith("exact is explained by text alone")


def test_a_sure_but_small_gap_is_nearly_explained() -> None:
    (sentence,) = explain_gaps(gaps_of(NOISE + 0.52, noise=NOISE + 0.5))
    assert sentence.startswith("exact is nearly explained by text alone")


def test_the_commonest_answer_can_be_the_strongest_rival() -> None:
    (sentence,) = explain_gaps(gaps_of(NOISE + 0.5, shuffled=NOISE, majority=NOISE[::-1] + 0.6))
    assert "explained by text alone" in sentence and "the commonest answer" in sentence


def test_a_model_without_a_score_has_nothing_to_explain() -> None:
    (sentence,) = explain_gaps(gaps_of(np.zeros(60), shuffled=np.zeros(60)))
    assert sentence == "exact is 0 with the right audio: there is nothing to explain."


def test_the_control_without_a_question_is_measured_and_not_judged() -> None:
    gaps = gaps_of(NOISE + 0.5, no_question=NOISE)
    assert gaps["no_question"]["exact"].first < 0.2
    assert explain_gaps(gaps) == []


def test_only_agreement_with_references_is_compared() -> None:
    measures = [mean_of("meteor", NOISE), mean_of("length_avg", NOISE), Distinct("vocab_size", [{"a"}] * 60)]
    assert set(measure_gaps(measures, {"noise": measures}, CLIPS)["noise"]) == {"meteor"}
