"""The lp_musiccaps protocol: published tables, BLEU against sacrebleu, several references."""

import json
from pathlib import Path

import pytest
from sacrebleu.metrics import BLEU

from descant.evaluation import score
from descant.evaluation.lp_musiccaps import bleu_measures
from descant.evaluation.meteor import meteor_name

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
