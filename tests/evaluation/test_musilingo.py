"""The musilingo protocol against values that NLTK and rouge_score gave when called directly."""

import json
from pathlib import Path

import pytest

from descant.evaluation import score
from descant.evaluation.meteor import meteor_name
from descant.evaluation.musilingo import character_bleu_scores, rouge_l_recalls

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
