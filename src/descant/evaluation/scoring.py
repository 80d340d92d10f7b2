"""Two named protocols that score predictions against references, each with intervals by clip.

`lp_musiccaps`: corpus BLEU of words, METEOR, ROUGE-L F1. `musilingo`: BLEU of characters, METEOR, ROUGE-L recall.
Their scores do not compare with each other.
"""

import warnings
from collections.abc import Hashable, Iterable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from nltk.tokenize import wordpunct_tokenize
from nltk.translate.bleu_score import sentence_bleu
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

from descant.evaluation.exact import exact_measures
from descant.evaluation.measures import Distinct, Interval, Measure, Sums, deviation_of, mean_of
from descant.evaluation.meteor import load_wordnet, meteor_name, meteor_scores, split_words
from descant.evaluation.predictions_file import Item

ORDERS = 4  # of n-grams in BLEU of words
BERTSCORE_PARTS = {"lp_musiccaps": ("precision", "recall", "f1"), "musilingo": ("recall",)}
Intervals = dict[str, Interval]


def words_of(text: str) -> set[str]:
    """Return the different words of a text."""
    return set(text.lower().replace(",", "").replace(".", "").split())


def vocabulary_measures(predictions: Sequence[str], train_references: Iterable[str] | None) -> list[Measure]:
    """Measure the vocabulary and the length in words; given training texts, also what is new.

    `vocab_novelty` is the share of the different words, `caption_novelty` of the different predictions, that no
    training text has.
    """
    words = [words_of(text) for text in predictions]
    lengths = [len(text.split()) for text in predictions]
    novelty: list[Measure] = []
    if train_references is not None:
        known = list(train_references)
        novelty.append(Distinct("vocab_novelty", words, frozenset().union(*map(words_of, known))))
        novelty.append(Distinct("caption_novelty", [{text} for text in predictions], frozenset(known)))
    return [
        Distinct("vocab_size", words), *novelty,
        mean_of("length_avg", lengths), deviation_of("length_std", lengths),
    ]  # fmt: skip


def lp_musiccaps_measures(
    predictions: Sequence[str], references: Sequence[Sequence[str]], train_references: Iterable[str] | None = None
) -> list[Measure]:
    """Measure every score of the protocol but BERTScore."""
    return [
        *bleu_measures(predictions, references),
        mean_of(meteor_name(), meteor_scores(predictions, references, split_words)),
        mean_of("rougeL", rouge_l_scores(predictions, references)),
        *vocabulary_measures(predictions, train_references),
    ]


def bleu_measures(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[Measure]:
    """Measure bleu1 … bleu4, each from the n-gram counts of every item by sacrebleu."""
    bleu = BLEU(tokenize="13a", smooth_method="none", effective_order=True)  # the order does not touch the counts
    scored = [bleu.sentence_score(text, list(texts)) for text, texts in zip(predictions, references, strict=True)]
    counts = np.array([[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in scored], dtype=float)
    return [Sums(f"bleu{order}", counts, partial(corpus_bleu, order=order)) for order in range(1, ORDERS + 1)]


def corpus_bleu(sums: np.ndarray, order: int) -> np.ndarray:
    """Return BLEU (n,) of summed counts (n, 10): matches and n-grams of orders 1–4, length, target length."""
    matches, totals = sums[:, :order], sums[:, ORDERS : ORDERS + order]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.exp(np.log(matches / totals).mean(axis=1))
        brevity = np.exp(np.minimum(0, 1 - sums[:, -1] / sums[:, -2]))
        return np.nan_to_num(precision * brevity)


def rouge_l_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Return ROUGE-L F1 of every prediction."""
    scorer = RougeScorer(["rougeL"])
    return [
        scorer.score_multi(texts, text)["rougeL"].fmeasure
        for text, texts in zip(predictions, references, strict=True)
    ]


def musilingo_measures(
    predictions: Sequence[str], references: Sequence[Sequence[str]], train_references: Iterable[str] | None = None
) -> list[Measure]:
    """Measure every score of the protocol but BERTScore."""
    return [
        mean_of("bleu", character_bleu_scores(predictions, references)),
        mean_of("rougeL_recall", rouge_l_recalls(predictions, references)),
        mean_of(meteor_name(), meteor_scores(predictions, references, wordpunct_tokenize)),
        *vocabulary_measures(predictions, train_references),
    ]


def character_bleu_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Return BLEU of the characters of every prediction."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="nltk.translate.bleu_score")  # "0 counts of 4-gram overlaps"
        return [sentence_bleu(texts, text) for text, texts in zip(predictions, references, strict=True)]


def rouge_l_recalls(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Return ROUGE-L recall of every prediction, the best over its references."""
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    return [
        max(scorer.score(reference, text)["rougeL"].recall for reference in texts)
        for text, texts in zip(predictions, references, strict=True)
    ]


PROTOCOLS = {"lp_musiccaps": lp_musiccaps_measures, "musilingo": musilingo_measures}


def protocol_measures(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    protocol: str,
    train_references: Iterable[str] | None = None,
    bertscore: str | Path | None = None,
) -> list[Measure]:
    """Measure the protocol's scores, each ready to be resampled.

    Args:
        predictions: one text an item.
        references: one text or a list of texts an item.
        protocol: one of PROTOCOLS.
        train_references: texts that the model was trained on: adds novelty.
        bertscore: an encoder's folder or Hub id: adds BERTScore.

    Raises:
        ValueError: no such protocol, no items, or another number of references.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol!r} is none of {', '.join(PROTOCOLS)}")
    if len(predictions) != len(references) or not len(predictions):
        raise ValueError(
            f"{len(predictions)} predictions and {len(references)} references: give each prediction its reference"
        )
    texts = [[item] if isinstance(item, str) else list(item) for item in references]
    measures = PROTOCOLS[protocol](predictions, texts, train_references)
    return measures + bertscore_measures(predictions, texts, protocol, bertscore) if bertscore else measures


def bertscore_measures(
    predictions: Sequence[str], references: Sequence[Sequence[str]], protocol: str, encoder: str | Path
) -> list[Measure]:
    """Measure the parts of BERTScore that the protocol reports, named after the encoder."""
    from descant.evaluation.bertscore import BertScorer

    scorer = BertScorer(encoder)
    similarity = scorer.score(predictions, references)
    return [
        mean_of(f"bertscore_{part}_{scorer.name}", getattr(similarity, part)) for part in BERTSCORE_PARTS[protocol]
    ]


def score(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    *,
    protocol: str,
    train_references: Iterable[str] | None = None,
    bertscore: str | Path | None = None,
) -> dict[str, float]:
    """Return the scores of predictions under `lp_musiccaps` or `musilingo` by name, and the number of items as `n`.

    The arguments are those of `protocol_measures`.
    """
    measures = protocol_measures(predictions, references, protocol, train_references, bertscore)
    return {measure.name: measure.value() for measure in measures} | {"n": len(predictions)}


def item_measures(
    items: Sequence[Item], protocol: str, train_references: Iterable[str] | None = None,
    bertscore: str | Path | None = None,
) -> list[Measure]:  # fmt: skip
    """Measure the protocol's scores of items, and the exact answers to the closed questions among them."""
    predictions, references = [item.prediction for item in items], [list(item.references) for item in items]
    exact = exact_measures(predictions, references, [item.question_type for item in items])
    return protocol_measures(predictions, references, protocol, train_references, bertscore) + exact


def intervals(measures: Iterable[Measure], clips: Sequence[Hashable], seed: int = 0, n: int = 1000) -> Intervals:
    """Return the 95 % interval of each score, resampled by clip."""
    return {measure.name: measure.interval(clips, seed, n) for measure in measures}


def describe_parts() -> dict[str, str]:
    """Return what the scores were made with: two scores compare only where these agree."""
    versions = {name: version(name) for name in ("sacrebleu", "rouge_score", "nltk")}
    return versions | {"wordnet": load_wordnet().source, "bootstrap": "1000 samples of the clips, 95 %"}
