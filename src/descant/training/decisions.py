"""Fits what typed answers need: sentences and probes on training rows, the rest on validation rows."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, ProcessorMixin

from descant.answering.model_folder import load_model
from descant.data.annotations import Row
from descant.data.audio import AudioError
from descant.data.clips import ClipAudio
from descant.data.collator import FeatureReader
from descant.data.terms import APART, KNOWN, confirmed, find_terms, read_claims, surface_forms
from descant.evaluation.calibration import (
    ScoredType,
    decide_rows,
    find_right,
    join,
    log_probabilities,
    read_confidences,
)
from descant.evaluation.exact import is_closed
from descant.models.lp_music_caps.decision_music import PLACE, MusicDecisionConfig, QuestionType
from descant.models.lp_music_caps.sure_claims import SureClaims, pick_sentences
from descant.models.lp_music_caps.track_music import ABOUT_MUSIC
from descant.training.music_reference import fit_reference
from descant.training.probes import (
    add_probes,
    add_scores,
    fit_probe,
    fit_probes,
    fit_temperature,
    fit_units,
    name_weights,
    read_states,
    read_units,
    widen_probes,
)
from descant.training.training_data import spread_evenly

log = logging.getLogger(__name__)

LISTS = {"instruments"}  # types that ask for all that there is, however little an answer names
MAX_QUESTIONS, MAX_SENTENCES, MAX_CARRIERS = 8, 12, 8
FITTED_CLIPS = 500  # of the validation rows, and of those whose sound says what music is like
OWN_THRESHOLD = 100  # decisions of a type from which on it gets a threshold of its own
LEAST_LIKELY = 1e-3  # that an option's mean probability counts for
PROBED_CLIPS = 6000  # of the training rows, whose audio states the probes are fitted on
CLAIM_PRECISION = 0.9  # of what long answers claim
ERRORS = 1.64  # standard errors below the measured share that it may be
COUNTED_ANSWERS = 1000  # long answers of the training rows, for how often they claim what
LEAST_NAMED = 10  # training clips that have an instrument, and that have it not, for a probe of it


def save_decisions(
    folder: Path,
    configs: Iterable[Mapping[str, Sequence[Row]]],
    features: FeatureReader,
    audio: Mapping[str, ClipAudio],
    device: torch.device | str = "cpu",
) -> MusicDecisionConfig | None:
    """Fit the settings of typed answers for the model that was saved in a folder, and write its `decision.json`.

    configs: the rows of `train` and `validation` of each of the dataset's configurations.
    audio: the clips' sound, where it is at hand: without it, noise is taken for music.
    Returns None, with a line in the log, where nothing was fitted.
    """
    model, processor = load_model(folder)
    configs = list(configs)
    train, validation = (
        list(dict.fromkeys(row for splits in configs for row in splits.get(split, ())))
        for split in ("train", "validation")
    )
    config = fit_decisions(model.to(device), processor, train, limit_rows(validation, FITTED_CLIPS), features)
    if config is None:
        log.info("no decision.json: no question type of the training rows has answers in words that descant knows")
        return None
    if ABOUT_MUSIC in config.question_types:  # the model hears by itself what is none
        config.save_pretrained(folder)
        return config
    extractor = processor.feature_extractor
    rate, window_s = extractor.sampling_rate, extractor.window_s
    known = [read_waveforms(audio, rows, rate, window_s) for rows in (train, validation)]
    reference = fit_reference(known[0], known[1], rate)
    if reference is None:
        log.info("decision.json: no clip's sound is at hand, so noise is taken for music")
    config.reference = None if reference is None else asdict(reference)
    config.save_pretrained(folder)
    return config


def limit_rows(rows: Sequence[Row], clips: int) -> list[Row]:
    """Return the rows of at most so many clips, spread evenly over all."""
    kept = set(spread_evenly([row.clip_id for row in rows], clips))
    return [row for row in rows if row.clip_id in kept]


def read_waveforms(
    audio: Mapping[str, ClipAudio], rows: Sequence[Row], sampling_rate: int, window_s: float
) -> list[np.ndarray]:
    """Read the sound of at most 500 clips of the rows; those that cannot be read are left out."""
    waveforms = []
    for clip_id in spread_evenly((row.clip_id for row in rows if row.clip_id in audio), FITTED_CLIPS):
        try:
            waveforms.append(audio[clip_id].load(sampling_rate, window_s)[0])
        except (AudioError, OSError) as error:
            log.info("%s: not used to fit what music sounds like: %s", clip_id, error)
    return waveforms


def fit_decisions(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    train_rows: Sequence[Row],
    validation_rows: Sequence[Row],
    features: FeatureReader,
    *,
    precision: float = 0.8,
) -> MusicDecisionConfig | None:
    """Fit the settings of typed answers; None where the training rows hold no types that `collect_types` collects.

    precision: the share of sure answers that shall be right; thresholds are the least probabilities that reach it on
        the validation rows, of each question type where it has 100 decisions there, of all together otherwise.
    """
    types = collect_types(train_rows)
    if not types:
        return None
    config = MusicDecisionConfig(precision=precision, fitted_for=model.fingerprint())
    decisions = decide_rows(model, processor, types, config.wordings, validation_rows, features)
    for name, scored in decisions.items():
        types[name].shifts = fit_shifts(scored, list(types[name].answers))
        decisions[name] = add_scores(scored, np.array(list(types[name].shifts.values())))
    probed = limit_rows(train_rows, PROBED_CLIPS)
    parts = probed, validation_rows
    states = [read_states(model, sorted({row.clip_id for row in rows}), features) for rows in parts]
    width = 2 * model.get_input_embeddings().weight.shape[1]  # mean and deviation of the audio embeddings
    of_embeds = [{clip: one[:width] for clip, one in known.items()} for known in states]
    probes = fit_probes(types, probed, of_embeds[0])
    claims = fit_claims(types, probes, parts, of_embeds)
    config.claims = None if claims is None else asdict(claims)
    of_encoder = {clip: one[width:] for clip, one in states[0].items() if len(one) > width}
    config.hidden, of_units = fit_units(types, probed, of_encoder)
    heard = {clip: read_units(one, config.hidden) for clip, one in states[1].items()}
    decisions = add_probes(types, decisions, widen_probes(probes, of_units), heard)
    for name, scored in decisions.items():
        types[name].temperature = fit_temperature(scored.scores, scored.right)
        types[name].decisions = len(scored.right)
    set_thresholds(types, decisions, precision)
    config.question_types = {name: asdict(kind) for name, kind in types.items()}
    return config


def collect_types(rows: Sequence[Row]) -> dict[str, QuestionType]:
    """Collect the closed types whose answers name one term each: their questions, and the sentences of every term."""
    questions: defaultdict[str, Counter[str]] = defaultdict(Counter)
    sentences: defaultdict[str, defaultdict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    several: Counter[str] = Counter()
    for row in rows:
        kind = row.question_type
        if kind is None or row.question is None or kind in LISTS or not is_closed(kind):
            continue
        terms = find_terms(row.answer, kind)
        if len(terms) == 1:
            questions[kind][row.question] += 1
            sentences[kind][next(iter(terms))][row.answer] += 1
        else:
            several[kind] += 1
    return {
        kind: describe_type(kind, asked, sentences[kind])
        for kind, asked in questions.items()
        if len(sentences[kind]) > 1 and asked.total() > several[kind]
    }


def describe_type(kind: str, questions: Counter[str], sentences: Mapping[str, Counter[str]]) -> QuestionType:
    """Describe one type by its commonest questions, and by the commonest sentences of each option."""
    synonyms: defaultdict[str, list[str]] = defaultdict(list)
    for form, canonical in surface_forms(kind).items():
        if canonical in sentences and form != canonical:
            synonyms[canonical].append(form)
    answers = {option: [text for text, _ in counts.most_common(MAX_SENTENCES)] for option, counts in sentences.items()}
    return QuestionType(
        questions=[question for question, _ in questions.most_common(MAX_QUESTIONS)],
        answers=dict(sorted(answers.items())),
        synonyms=dict(synonyms),
        carriers=find_carriers(answers),
    )


def find_carriers(answers: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the sentences into which at least two options were put, the commonest first, with a place for others."""
    carriers: defaultdict[str, set[str]] = defaultdict(set)
    for option, texts in answers.items():
        for text in texts:
            start = text.casefold().find(option.casefold())
            if start >= 0:
                carriers[text[:start].replace(" an ", " a ") + PLACE + text[start + len(option) :]].add(option)
    common = sorted(carriers, key=lambda carrier: -len(carriers[carrier]))
    return [carrier for carrier in common if len(carriers[carrier]) > 1][:MAX_CARRIERS]


def fit_shifts(scored: ScoredType, options: Sequence[str]) -> dict[str, float]:
    """Return what is added to the log-probability of each option: its log frequency less the log of its mean.

    One step towards means that are the frequencies: further ones calibrate worse on other clips.
    """
    frequency = np.bincount(scored.right, minlength=len(options)) + 1.0
    likelihood = np.exp(log_probabilities(scored.scores, 1.0)).mean(axis=0) + LEAST_LIKELY
    shifts = np.log(frequency / frequency.sum()) - np.log(likelihood)
    return {option: round(float(shift), 4) for option, shift in zip(options, shifts, strict=True)}


# Thresholds


def set_thresholds(types: Mapping[str, QuestionType], decisions: Mapping[str, ScoredType], precision: float) -> None:
    """Fit each type's threshold, on its own decisions where there are enough, else on those of all types."""
    confident = {name: read_confidences(found, types[name].temperature) for name, found in decisions.items()}
    if not confident:
        return
    pooled = join(list(confident.values()))
    shared = find_threshold(pooled.probabilities, pooled.hits, precision)
    for name, one in confident.items():
        own = len(one.hits) >= OWN_THRESHOLD
        types[name].threshold = find_threshold(one.probabilities, one.hits, precision) if own else shared


# What long answers may claim


def fit_claims(
    types: Mapping[str, QuestionType], probes: Mapping[str, np.ndarray], rows: Sequence[Sequence[Row]],
    states: Sequence[Mapping[str, np.ndarray]],
) -> SureClaims | None:  # fmt: skip
    """Fit what long answers may claim; None where closed questions ask for nothing that the claim reader knows.

    probes: those of the types, of which each clip has one option. rows, states: of the training clips and of the
        validation clips. What has several right answers, such as instruments, gets a probe for each of them here.
    """
    fitted: dict[str, Fitted] = {}
    options: dict[str, list[str]] = {}
    for kind in (kind for kinds in KNOWN.values() for kind in kinds):
        if kind in probes:
            right = {clip: one[kind] for clip, one in find_right(types, rows[1]).items() if kind in one}
            options[kind], one = list(types[kind].answers), fit_claimed_option(probes[kind], right, states[1])
        else:
            named = [gather_terms(part, kind) for part in rows]
            options[kind] = find_common(named[0])
            one = fit_claimed_options(options[kind], named, states) if options[kind] else None
        if one is not None:
            fitted[kind] = one
    if not fitted:
        return None
    return SureClaims(
        probes={kind: name_weights(options[kind], one[0]) for kind, one in fitted.items()},
        thresholds=find_claim_thresholds({kind: one[1:] for kind, one in fitted.items()}, count_claimed(rows[0])),
        listed=[kind for kind in fitted if kind not in probes],
        sentences={kind: pick_sentences(kind, types[kind].answers) for kind in fitted if kind in types},
        questions=list_wordings(rows[0], closed=False),
        closed=list_wordings(rows[0], closed=True),
        precision=CLAIM_PRECISION,
    )


def find_claim_thresholds(
    confident: Mapping[str, tuple[np.ndarray, np.ndarray]], claimed: Mapping[str, int]
) -> dict[str, float]:
    """Return the threshold of each type: that of all together, or its own where it has enough decisions and is higher.

    confident: type → probabilities and hits of its decisions. claimed: category → claims of long answers.
    """
    pooled = find_safe_threshold(*pool_claims(confident, claimed))
    own = {kind: find_safe_threshold(*one) for kind, one in confident.items() if len(one[0]) >= OWN_THRESHOLD}
    return {kind: max(own.get(kind, 0.0), pooled, 0.5) for kind in confident}  # what is claimed is likelier than not


Fitted = tuple[np.ndarray, np.ndarray, np.ndarray]  # weights, probabilities and hits of decisions


def fit_claimed_option(probe: np.ndarray, right: Mapping[str, int], states: Mapping[str, np.ndarray]) -> Fitted | None:
    """Calibrate the probe (options, features + 1) of a type with one right option a clip; None without such clips."""
    clips = [clip for clip in right if clip in states]
    if not clips:
        return None
    truth = np.array([right[clip] for clip in clips])
    scores = np.stack([states[clip] for clip in clips]) @ probe[:, :-1].T + probe[:, -1]
    temperature = fit_temperature(scores, truth)
    found = read_confidences(ScoredType(scores, truth, clips), temperature)
    return probe / temperature, found.probabilities, found.hits


def fit_claimed_options(
    options: Sequence[str], named: Sequence[Mapping[str, frozenset[str]]], states: Sequence[Mapping[str, np.ndarray]]
) -> Fitted | None:
    """Fit and calibrate a probe of the log-odds of each option, of which clips have several.

    named: clip → its options; states: clip → (features,): of the training clips and of the validation clips each.
    Gives the decisions that an option is there.
    """
    clips = [[clip for clip in part if clip in known] for part, known in zip(named, states, strict=True)]
    if not all(clips):
        return None
    inputs = [np.stack([known[clip] for clip in part]) for part, known in zip(clips, states, strict=True)]
    truths = [
        np.array([[option in terms[clip] for option in options] for clip in part], dtype=int)
        for part, terms in zip(clips, named, strict=True)
    ]
    pairs = [fit_probe(inputs[0], truths[0][:, number], 2) for number in range(len(options))]
    weights = np.stack([pair[1] - pair[0] for pair in pairs])
    odds = (inputs[1] @ weights[:, :-1].T + weights[:, -1]).ravel()
    temperature = fit_temperature(np.column_stack([np.zeros_like(odds), odds]), truths[1].ravel())
    likely = odds > 0
    return weights / temperature, 1 / (1 + np.exp(-odds[likely] / temperature)), truths[1].ravel()[likely] > 0


def gather_terms(rows: Iterable[Row], kind: str) -> dict[str, frozenset[str]]:
    """Return the terms that the answers to questions of a type name, by clip; without those of other categories."""
    named: defaultdict[str, frozenset[str]] = defaultdict(frozenset)
    for row in rows:
        if row.question_type == kind:
            terms = find_terms(row.answer, kind)
            named[row.clip_id] |= terms - confirmed(terms, APART)
    return dict(named)


def find_common(named: Mapping[str, frozenset[str]]) -> list[str]:
    """Return the terms that several clips have and several have not."""
    counts = Counter(term for terms in named.values() for term in terms)
    return sorted(term for term, count in counts.items() if LEAST_NAMED <= count <= len(named) - LEAST_NAMED)


def list_wordings(rows: Iterable[Row], closed: bool) -> list[str]:
    """Return the commonest wordings of the questions of each closed type, or of each other one."""
    asked: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.question is not None and is_closed(row.question_type) == closed:
            asked[row.question_type][row.question] += 1
    return [text for counts in asked.values() for text, _ in counts.most_common(MAX_QUESTIONS)]


def count_claimed(rows: Iterable[Row]) -> Counter[str]:
    """Return how often long answers claim something of each category."""
    texts = [row.answer for row in rows if not is_closed(row.question_type)][:COUNTED_ANSWERS]
    return Counter(name for text in texts for name, terms in read_claims(text).items() for _ in terms)


def pool_claims(
    confident: Mapping[str, tuple[np.ndarray, np.ndarray]], claimed: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities, hits and weights of the decisions of all types, each category as heavy as in long answers.

    Long answers name a genre more often than drums, and genres are harder.
    """
    category = {kind: name for name, kinds in KNOWN.items() for kind in kinds}
    sizes = Counter(category[kind] for kind, (_, hits) in confident.items() for _ in hits)
    weights = [
        np.full(len(hits), (claimed.get(category[kind], 0) + 1) / max(sizes[category[kind]], 1))
        for kind, (_, hits) in confident.items()
    ]
    probabilities, hits = (np.concatenate(parts) for parts in zip(*confident.values(), strict=True))
    return probabilities, hits, np.concatenate(weights)


def find_safe_threshold(probabilities: np.ndarray, hits: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the least probability from which on the share of right decisions is high enough, with 95 % confidence."""
    if not len(hits):
        return 1.0
    order = np.argsort(-probabilities)
    weights = np.ones(len(order)) if weights is None else weights[order] / weights.mean()
    counts = np.cumsum(weights) ** 2 / np.cumsum(weights**2)  # as many equal ones say as much
    shares = np.cumsum(weights * hits[order]) / np.cumsum(weights)
    shares = (counts * shares + 1) / (counts + 2)  # by the rule of succession: few decisions prove little
    safe = shares - ERRORS * np.sqrt(shares * (1 - shares) / counts) >= CLAIM_PRECISION
    enough = np.flatnonzero(safe & ends_ties(probabilities[order]))
    return float(probabilities[order][enough[-1]]) if len(enough) else 1.0


def ends_ties(sorted_probabilities: np.ndarray) -> np.ndarray:
    """Mark the last of equal neighbours: a threshold takes all of them or none."""
    return np.append(sorted_probabilities[1:] != sorted_probabilities[:-1], True)


def find_threshold(probabilities: np.ndarray, hits: np.ndarray, precision: float) -> float:
    """Return the least probability from which on this share of the answers is right; 1 where there is none.

    Where all answers together are right often enough, probabilities of that share are sure too, if none was so low.
    """
    order = np.argsort(-probabilities)
    shares = hits[order].cumsum() / np.arange(1, len(order) + 1)
    enough = np.flatnonzero((shares >= precision) & ends_ties(probabilities[order]))
    if not len(enough):
        return 1.0
    least = float(probabilities[order][enough[-1]])
    return min(least, precision) if enough[-1] == len(order) - 1 else least
