"""The `lp_musiccaps` protocol: corpus BLEU of words, METEOR, ROUGE-L F, vocabulary and length.

As LP-MusicCaps scores (Doh et al. 2023, github.com/seungheondoh/lp-music-caps, lpmc/utils/metrics.py), with the
metrics of `evaluate` 0.4.0 under it:
- BLEU: Papineni et al. 2002 over the corpus, 13a tokens, case kept, uniform weights over orders 1..n, no smoothing;
- METEOR: NLTK on Treebank words (see `meteor.py`);
- ROUGE-L: Lin 2004, F1 per item, lower-case alphanumeric words, no stemming, the best of several references; the mean,
  where the published value is the median of 1,000 unseeded bootstrap samples (within about 1e-4 of the mean).
"""

from collections.abc import Iterable, Sequence

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from descant.evaluation.measures import Measure, Sums, mean_of
from descant.evaluation.meteor import meteor_name, meteor_scores, split_words
from descant.evaluation.vocabulary import vocabulary_measures

ORDERS = 4


def lp_musiccaps_measures(
    predictions: Sequence[str], references: Sequence[Sequence[str]], train_references: Iterable[str] | None = None
) -> list[Measure]:
    """Every score of the protocol but BERTScore."""
    return [
        *bleu_measures(predictions, references),
        mean_of(meteor_name(), meteor_scores(predictions, references, split_words)),
        mean_of("rougeL", rouge_l_scores(predictions, references)),
        *vocabulary_measures(predictions, train_references),
    ]


def bleu_measures(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[Measure]:
    """bleu1 … bleu4, each from the n-gram counts that sacrebleu finds in an item."""
    bleu = BLEU(tokenize="13a", smooth_method="none", effective_order=True)  # the order does not touch the counts
    scored = [bleu.sentence_score(text, list(wanted)) for text, wanted in zip(predictions, references, strict=True)]
    counts = np.array([[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in scored], dtype=float)
    return [Sums(f"bleu{order}", counts, lambda sums, n=order: corpus_bleu(sums, n)) for order in range(1, ORDERS + 1)]


def corpus_bleu(sums: np.ndarray, order: int) -> np.ndarray:
    """BLEU of summed counts (n, matches of orders 1..4, n-grams of orders 1..4, length, reference length) → (n,)."""
    matches, totals = sums[:, :order], sums[:, ORDERS : ORDERS + order]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.exp(np.log(matches / totals).mean(axis=1))
        brevity = np.exp(np.minimum(0, 1 - sums[:, -1] / sums[:, -2]))
        return np.nan_to_num(precision * brevity)


def rouge_l_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """ROUGE-L F1 of every prediction."""
    scorer = RougeScorer(["rougeL"])
    return [
        scorer.score_multi(wanted, text)["rougeL"].fmeasure
        for text, wanted in zip(predictions, references, strict=True)
    ]
