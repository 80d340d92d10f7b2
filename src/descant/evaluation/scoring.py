"""Scores predictions under a named protocol, with intervals by clip."""

from collections.abc import Hashable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from descant.evaluation.bootstrap import Interval
from descant.evaluation.exact import exact_measures
from descant.evaluation.items import Item
from descant.evaluation.lp_musiccaps import lp_musiccaps_measures
from descant.evaluation.measures import Measure, mean_of
from descant.evaluation.musilingo import musilingo_measures
from descant.evaluation.wordnet import load_wordnet

PROTOCOLS = {"lp_musiccaps": lp_musiccaps_measures, "musilingo": musilingo_measures}
Intervals = dict[str, Interval]
BERTSCORE_PARTS = {"lp_musiccaps": ("precision", "recall", "f1"), "musilingo": ("recall",)}


def protocol_measures(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    protocol: str,
    train_references: Iterable[str] | None = None,
    bertscore: str | Path | None = None,
) -> list[Measure]:
    """The protocol's scores, each ready to be resampled. `references` holds one text or a list of texts an item.

    `train_references` adds novelty; `bertscore`, an encoder's folder or Hub id, adds BERTScore.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol!r} is none of {', '.join(PROTOCOLS)}")
    if len(predictions) != len(references) or not len(predictions):
        raise ValueError(
            f"{len(predictions)} predictions and {len(references)} references: give each prediction its reference"
        )
    wanted = [[item] if isinstance(item, str) else list(item) for item in references]
    measures = PROTOCOLS[protocol](predictions, wanted, train_references)
    return measures + bertscore_measures(predictions, wanted, protocol, bertscore) if bertscore else measures


def bertscore_measures(
    predictions: Sequence[str], references: Sequence[Sequence[str]], protocol: str, encoder: str | Path
) -> list[Measure]:
    """The parts of BERTScore that the protocol reports, named after the encoder."""
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
    """Scores predictions under `lp_musiccaps` or `musilingo` → {name: score}, with the number of items as `n`."""
    measures = protocol_measures(predictions, references, protocol, train_references, bertscore)
    return {measure.name: measure.value() for measure in measures} | {"n": len(predictions)}


def item_measures(items: Sequence[Item], protocol: str, **settings) -> list[Measure]:
    """The protocol's scores of items, and the exact answers to the closed questions among them."""
    predictions, references = [item.prediction for item in items], [list(item.references) for item in items]
    exact = exact_measures(predictions, references, [item.question_type for item in items])
    return protocol_measures(predictions, references, protocol, **settings) + exact


def intervals(measures: Iterable[Measure], clips: Sequence[Hashable], seed: int = 0, n: int = 1000) -> Intervals:
    """The 95 % interval of each score, resampled by clip."""
    return {measure.name: measure.interval(clips, seed, n) for measure in measures}


def describe_parts() -> dict[str, str]:
    """What the scores were made with: two scores compare only where these agree."""
    versions = {name: version(name) for name in ("sacrebleu", "rouge_score", "nltk")}
    return versions | {"wordnet": load_wordnet().source, "bootstrap": "1000 samples of the clips, 95 %"}
