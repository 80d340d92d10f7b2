"""Whether probabilities mean what they say: calibration error, Brier score, risk and coverage of typed answers.

A decision is the likeliest option of a typed question about one clip. Its probability should be the share of such
decisions that are right, and leaving the least probable ones open should leave the better ones.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel, ProcessorMixin

from descant.data.annotations import Row
from descant.data.collator import FeatureReader
from descant.data.terms import find_terms
from descant.evaluation.measures import Interval, draws, percentiles
from descant.models.lp_music_caps.answer_tree import AnswerTree, build_tree, load_units
from descant.models.lp_music_caps.decision_music import MusicDecisionConfig, QuestionType
from descant.program import one_line

log = logging.getLogger(__name__)

BINS = 15  # of equal mass
COVERAGE = 0.6  # at which accuracy is reported
CLIPS_AT_ONCE = 16


@dataclass(frozen=True)
class ScoredType:
    """Scores of one question type: log-probabilities (decisions, options), right options and clips (decisions,)."""

    scores: np.ndarray
    right: np.ndarray
    clips: list[str]


@dataclass(frozen=True)
class Confidences:
    """Decisions of one or several question types: probabilities, hits, squared errors, clips, all (decisions,).

    squared: the sum over the options of the squared distance between probability and truth. sure: whether the
    probability reaches the fitted threshold.
    """

    probabilities: np.ndarray
    hits: np.ndarray
    squared: np.ndarray
    sure: np.ndarray
    clips: list[str]


def decide_rows(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    types: Mapping[str, QuestionType],
    wordings: int,
    rows: Sequence[Row],
    features: FeatureReader,
    hidden: str = "",
) -> dict[str, ScoredType]:
    """Score every option of the rows' question types, with their shifts and probes, without temperatures.

    hidden: what the probes read, as a decision configuration has it. Gives one decision a clip and type.
    """
    right = find_right(types, rows)
    prompts = [[processor.prompt_ids(text) for text in one.questions[:wordings]] for one in types.values()]
    trees = [build_type_tree(one, processor, hidden=hidden) for one in types.values()]
    scores: defaultdict[str, list[np.ndarray]] = defaultdict(list)
    clips: defaultdict[str, list[str]] = defaultdict(list)
    for part, batch in read_batches(features, sorted(right)):
        for kind, options in zip(types, model.score_options(batch, prompts, trees), strict=True):
            asked = [number for number, clip in enumerate(part) if kind in right[clip]]
            scores[kind] += list(options[asked].float().cpu().numpy())
            clips[kind] += [part[number] for number in asked]
    return {
        kind: ScoredType(np.stack(found), np.array([right[clip][kind] for clip in clips[kind]]), clips[kind])
        for kind, found in scores.items()
        if found
    }


def find_right(types: Mapping[str, QuestionType], rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Return the number of the right option by clip and type, for answers that state one option."""
    right: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        kind = row.question_type
        if kind is None or kind not in types:
            continue
        options, terms = list(types[kind].answers), find_terms(row.answer, kind)
        if len(terms) == 1 and (term := next(iter(terms))) in options:
            right[row.clip_id][kind] = options.index(term)
    return right


def build_type_tree(
    kind: QuestionType, processor: ProcessorMixin, options: int | None = None, hidden: str = ""
) -> AnswerTree:
    """Build the tree of the first `options` options of a type; of all without a number. hidden: see `decide_rows`."""
    asked = list(kind.answers.items())[:options]
    return build_tree(
        [processor.answer_ids(texts) for _, texts in asked],
        [[kind.shift(option)] * len(texts) for option, texts in asked],
        [[kind.weights(option)] * len(texts) for option, texts in asked],
        load_units(hidden),
    )


def read_batches(features: FeatureReader, clips: Sequence[str]) -> Iterator[tuple[list[str], torch.Tensor]]:
    """Yield the features of clips in batches, without those that cannot be read, and the clips' ids."""
    for start in tqdm(range(0, len(clips), CLIPS_AT_ONCE), desc="decisions", disable=None, leave=False):
        if read := _read_all(features, clips[start : start + CLIPS_AT_ONCE]):
            yield list(read), torch.from_numpy(np.stack(list(read.values())))


def _read_all(features: FeatureReader, clips: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the features of clips; what cannot be read is named in the log, and left out."""
    read = {}
    for clip in clips:
        try:
            read[clip] = features.read(clip)
        except (KeyError, ValueError, OSError) as error:
            log.warning("%s: no decisions about it: %s", clip, one_line(error))
    return read


def log_probabilities(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Divide log-probabilities (decisions, options) by a temperature and normalise them again."""
    scaled = scores / temperature
    return scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)


def read_confidences(scored: ScoredType, temperature: float, threshold: float = 1.0) -> Confidences:
    """Return the likeliest options' probabilities and whether they are right."""
    probabilities = np.exp(log_probabilities(scored.scores, temperature))
    truth = np.eye(probabilities.shape[1])[scored.right]
    best = probabilities.max(axis=1)
    return Confidences(
        probabilities=best,
        hits=probabilities.argmax(axis=1) == scored.right,
        squared=((probabilities - truth) ** 2).sum(axis=1),
        sure=best >= threshold,
        clips=scored.clips,
    )


def join(parts: Sequence[Confidences]) -> Confidences:
    """Return the decisions of several question types as one."""
    return Confidences(
        probabilities=np.concatenate([one.probabilities for one in parts]),
        hits=np.concatenate([one.hits for one in parts]),
        squared=np.concatenate([one.squared for one in parts]),
        sure=np.concatenate([one.sure for one in parts]),
        clips=[clip for one in parts for clip in one.clips],
    )


# Scores


def expected_calibration_error(probabilities: np.ndarray, outcomes: np.ndarray, bins: int = BINS) -> float:
    """Average the distance between mean probability and share that came true over bins of equal mass."""
    probabilities, outcomes = np.ravel(probabilities), np.ravel(outcomes)
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [len(part) * abs(probabilities[part].mean() - outcomes[part].mean()) for part in parts]
    return float(sum(gaps) / len(order))


def risk_coverage(probabilities: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of decisions that are answered, the surest first, and the share of those that are wrong."""
    order = np.argsort(-probabilities, kind="stable")
    counts = np.arange(1, len(order) + 1)
    return counts / len(order), 1 - hits[order].cumsum() / counts


def risk_area(probabilities: np.ndarray, hits: np.ndarray) -> float:
    """Return the area under risk over coverage: the mean share of wrong answers over all thresholds."""
    return float(risk_coverage(probabilities, hits)[1].mean())


def accuracy_at(probabilities: np.ndarray, hits: np.ndarray, coverage: float = COVERAGE) -> float:
    """Return the share of right answers among this share of the decisions, the surest."""
    order = np.argsort(-probabilities, kind="stable")
    return float(hits[order[: max(1, round(coverage * len(order)))]].mean())


SCORES: dict[str, Callable[[Confidences], float]] = {
    "accuracy": lambda one: float(one.hits.mean()),
    "ece": lambda one: expected_calibration_error(one.probabilities, one.hits),
    "brier": lambda one: float(one.squared.mean()),
    "risk_area": lambda one: risk_area(one.probabilities, one.hits),
    "accuracy_at_60": lambda one: accuracy_at(one.probabilities, one.hits),
    "sure": lambda one: float(one.sure.mean()),
    "precision_of_sure": lambda one: float(one.hits[one.sure].mean()) if one.sure.any() else float("nan"),
}


def score_confidences(found: Confidences, seed: int = 0, n: int = 1000) -> dict[str, Any]:
    """Return each score, its 95 % interval, for which clips are drawn with replacement, and how many decisions."""
    intervals = resample_scores(found, seed, n)
    values = {name: score(found) for name, score in SCORES.items()}
    return {
        "n": len(found.hits),
        **{name: None if np.isnan(value) else round(value, 4) for name, value in values.items()},
        "intervals": {name: [round(value, 4) for value in intervals[name]] for name in SCORES if name in intervals},
    }


def resample_scores(found: Confidences, seed: int, n: int) -> dict[str, Interval]:
    """Return the percentile interval of each score over samples of the clips."""
    order = {clip: number for number, clip in enumerate(dict.fromkeys(found.clips))}
    clip_of = np.array([order[clip] for clip in found.clips])
    replicates: defaultdict[str, list[float]] = defaultdict(list)
    for drawn in (row for block in draws(len(order), seed, n) for row in block):
        taken = np.repeat(np.arange(len(clip_of)), drawn[clip_of])
        sample = Confidences(
            found.probabilities[taken], found.hits[taken], found.squared[taken], found.sure[taken], []
        )
        for name, score in SCORES.items():
            value = score(sample)
            replicates[name] += [] if np.isnan(value) else [value]
    return {name: percentiles(np.array(values)) for name, values in replicates.items() if values}


def measure_decisions(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    config: MusicDecisionConfig,
    rows: Sequence[Row],
    features: FeatureReader,
) -> dict[str, Any]:
    """Score typed answers to the rows' closed questions: over all types, and for each; empty where there are none."""
    types = config.types()
    scored = decide_rows(model, processor, types, config.wordings, rows, features, config.hidden)
    if not scored:
        return {}
    found = {
        name: read_confidences(one, types[name].temperature, types[name].threshold) for name, one in scored.items()
    }
    return {
        "all": score_confidences(join(list(found.values()))),
        "by_type": {name: score_confidences(one) for name, one in found.items()},
        "precision": config.precision,
    }
