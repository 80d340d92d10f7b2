"""The `musilingo` protocol: mean item BLEU of characters, ROUGE-L recall, METEOR, length.

As MusiLingo (Deng et al. 2024, github.com/zihaod/MusiLingo, qa.py) and MU-LLaMA (Liu et al. 2024) score:
- BLEU: NLTK's `sentence_bleu` of the raw strings, whose items are characters; weights 0.25 for orders 1 to 4, no
  smoothing (an order without a match makes the item about 0), case kept; the mean over the items;
- ROUGE-L: recall per item with Porter stems;
- METEOR: NLTK on `wordpunct_tokenize` words.
Recall rewards long answers: read it with `length_avg`. Not comparable with `lp_musiccaps`.
"""

import warnings
from collections.abc import Iterable, Sequence

from nltk.tokenize import wordpunct_tokenize
from nltk.translate.bleu_score import sentence_bleu
from rouge_score.rouge_scorer import RougeScorer

from descant.evaluation.measures import Measure, mean_of
from descant.evaluation.meteor import meteor_name, meteor_scores
from descant.evaluation.vocabulary import vocabulary_measures


def musilingo_measures(
    predictions: Sequence[str], references: Sequence[Sequence[str]], train_references: Iterable[str] | None = None
) -> list[Measure]:
    """Every score of the protocol but BERTScore."""
    return [
        mean_of("bleu", character_bleu_scores(predictions, references)),
        mean_of("rougeL_recall", rouge_l_recalls(predictions, references)),
        mean_of(meteor_name(), meteor_scores(predictions, references, wordpunct_tokenize)),
        *vocabulary_measures(predictions, train_references),
    ]


def character_bleu_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """BLEU of the characters of every prediction."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="nltk.translate.bleu_score")  # "0 counts of 4-gram overlaps"
        return [sentence_bleu(wanted, text) for text, wanted in zip(predictions, references, strict=True)]


def rouge_l_recalls(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """ROUGE-L recall of every prediction, the best over its references."""
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    return [
        max(scorer.score(reference, text)["rougeL"].recall for reference in wanted)
        for text, wanted in zip(predictions, references, strict=True)
    ]
