"""The lp_musiccaps protocol: published tables, BLEU against sacrebleu, several references; the report in Markdown."""

import json
from pathlib import Path

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from descant.evaluation import score
from descant.evaluation.meteor import meteor_name
from descant.evaluation.report import render_report
from descant.evaluation.scoring import bleu_measures, character_bleu_scores, rouge_l_recalls, vocabulary_measures

PREDICTIONS = ["A slow piano piece.", "Fast rock & roll, loud drums!", "", "jazz", "the piano plays the piano"]
REFERENCES = [
    ["A slow and sad piano piece, in 3/4."], ["Rock & roll with loud drums!", "A fast song."], ["Silence."],
    ["smooth jazz"], ["the piano plays"],
]  # fmt: skip


@pytest.fixture(scope="module", params=["baseline_template", "caption_summary"])
def published(request: pytest.FixtureRequest, shared_dir: Path) -> tuple[dict[str, float], dict[str, float]]:
    folder = shared_dir / "data" / "lp_musiccaps_predictions" / request.param
    items = json.loads((folder / "inference.json").read_text(encoding="utf-8"))
    ours = score(
        [item["prediction"] for item in items], [item["ground_truth"] for item in items], protocol="lp_musiccaps"
    )
    return ours, json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_published_bleu_and_lengths_reproduce_to_six_digits(published: tuple[dict, dict]) -> None:
    ours, theirs = published
    for name in ("bleu1", "bleu2", "bleu3", "bleu4", "length_avg", "length_std"):
        assert ours[name] == pytest.approx(theirs[name], abs=5e-7), name


def test_published_rouge_reproduces_to_four_digits(published: tuple[dict, dict]) -> None:
    assert published[0]["rougeL"] == pytest.approx(published[1]["rougeL"], abs=1e-4)


def test_published_meteor_reproduces_within_a_thousandth(published: tuple[dict, dict]) -> None:
    if meteor_name() != "meteor":
        pytest.skip("WordNet is not installed")
    assert published[0]["meteor"] == pytest.approx(published[1]["meteor_1.0"], abs=1e-3)


def test_every_bleu_is_sacrebleus_corpus_score() -> None:
    second = [wanted[1] if len(wanted) > 1 else None for wanted in REFERENCES]
    streams = [[wanted[0] for wanted in REFERENCES], second]
    for order, measure in enumerate(bleu_measures(PREDICTIONS, REFERENCES), start=1):
        expected = BLEU(max_ngram_order=order, smooth_method="none").corpus_score(PREDICTIONS, streams).score / 100
        assert measure.value() == pytest.approx(expected, abs=1e-12)


def test_bleu_without_a_matching_order_is_zero() -> None:
    scores = score(["one two"], ["one three"], protocol="lp_musiccaps")
    assert scores["bleu1"] == pytest.approx(0.5)
    assert scores["bleu2"] == scores["bleu4"] == 0


def test_keys_are_the_protocols() -> None:
    scores = score(PREDICTIONS, REFERENCES, protocol="lp_musiccaps", train_references=["smooth jazz"])
    assert list(scores) == [
        "bleu1", "bleu2", "bleu3", "bleu4", meteor_name(), "rougeL", "vocab_size", "vocab_novelty", "caption_novelty",
        "length_avg", "length_std", "n",
    ]  # fmt: skip
    assert scores["n"] == 5


PAIRS = json.loads(Path(__file__).with_name("musilingo_pairs.json").read_text(encoding="utf-8"))["pairs"]
TEXTS = [pair["prediction"] for pair in PAIRS], [[pair["reference"]] for pair in PAIRS]


def test_items_score_as_nltk_scores_them_directly() -> None:
    assert character_bleu_scores(*TEXTS) == pytest.approx([pair["bleu"] for pair in PAIRS], abs=1e-12)
    assert rouge_l_recalls(*TEXTS) == pytest.approx([pair["rougeL_recall"] for pair in PAIRS], abs=1e-12)


@pytest.mark.parametrize("pair", PAIRS)
def test_every_pair_scores_as_stored(pair: dict) -> None:
    scores = score([pair["prediction"]], [pair["reference"]], protocol="musilingo")
    assert scores["bleu"] == pytest.approx(pair["bleu"], abs=1e-12)
    assert scores[meteor_name()] == pytest.approx(pair[meteor_name()], abs=1e-12)


def test_the_score_is_the_mean_of_the_items() -> None:
    scores = score(*TEXTS, protocol="musilingo")
    assert scores["bleu"] == pytest.approx(sum(pair["bleu"] for pair in PAIRS) / 10)
    assert list(scores) == ["bleu", "rougeL_recall", meteor_name(), "vocab_size", "length_avg", "length_std", "n"]


def test_the_protocols_do_not_share_their_bleu() -> None:
    assert "bleu" not in score(["piano"], ["a piano"], protocol="lp_musiccaps")
    with pytest.raises(ValueError, match="'bleu' is none of lp_musiccaps, musilingo"):
        score(["piano"], ["a piano"], protocol="bleu")


VARIED_TEXTS = ["The piano, softly.", "the Piano plays", "New words here now"]


def values(train: list[str] | None) -> dict[str, float]:
    return {measure.name: measure.value() for measure in vocabulary_measures(VARIED_TEXTS, train)}


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


RESULT = {
    "model": "m", "dataset": "a|b", "config": "captions", "split": "test", "protocol": "lp_musiccaps", "n": 3,
    "skipped": 1, "bad_records": 0, "bleu1": 0.5, "meteor": 0.25, "vocab_size": 7.0, "controls": {}, "verdicts": [],
    "intervals": {"bleu1": (0.4, 0.6), "meteor": (0.2, 0.3), "vocab_size": (6.0, 8.0)},
    "leak": {"checked": True, "clips": 0}, "made_with": {"nltk": "3"},
}  # fmt: skip


def test_our_row_stands_beside_the_published_ones_of_the_same_protocol() -> None:
    text = render_report(RESULT)
    assert "| system | data | bleu1 | meteor |" in text
    assert "| this model | a\\|b, captions, test | 0.5000 | 0.2500 |" in text
    assert "0.4000 – 0.6000" in text
    assert "| LP-MusicCaps transfer | MusicCaps, captions, test | 0.2909 | 0.2239 |" in text
    assert "1 skipped" in text and "do not compare" in text


def test_the_other_protocol_has_no_published_row() -> None:
    assert "LP-MusicCaps" not in render_report(RESULT | {"protocol": "musilingo"})


def test_the_leak_check_is_always_told() -> None:
    assert "none of these clips" in render_report(RESULT)
    assert "Leak: 2 of these clips" in render_report(RESULT | {"leak": {"checked": True, "clips": 2}})
    assert "not possible" in render_report(RESULT | {"leak": {"checked": False, "clips": 0}})


def test_controls_and_their_meaning_follow() -> None:
    gap = {"score": 0.1, "gap": 0.4, "interval": (0.3, 0.5), "p": 0.001}
    controls = {"shuffled": {"bleu1": gap}, "majority": {}}
    text = render_report(RESULT | {"controls": controls, "verdicts": ["bleu1 depends on the audio."]})
    assert "| bleu1 | 0.5000 | 0.1000 (+0.4000 [0.3000, 0.5000]) |  |" in text
    assert "- bleu1 depends on the audio." in text


def test_claims_that_contradict_nothing_known_are_counted() -> None:
    text = render_report(RESULT | {"claims": {"": (0.9, 1200), "genres": (0.75, 400)}})
    assert "contradict nothing known: 0.900 of 1,200 (genres 0.750 of 400)." in text
    assert "Claims" not in render_report(RESULT | {"claims": {}})
