"""Probes of typed answers: what the states of the audio side say of a question's options, beside the words.

A probe is a logistic regression on the pooled audio embeddings, or on hidden units above the encoder's own states,
which all types share. Which of the two a type gets, and how much both count beside the words, validation rows decide.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel

from descant.data.annotations import Row
from descant.data.collator import FeatureReader
from descant.evaluation.calibration import ScoredType, find_right, log_probabilities, read_batches
from descant.models.lp_music_caps.answer_tree import FARTHEST, HiddenUnits, load_units
from descant.models.lp_music_caps.decision_music import QuestionType

log = logging.getLogger(__name__)

PRIOR = 0.03  # variance of a probe's weights, of states with a variance of 1, where `PRIOR_CLIPS` or fewer are known
PRIOR_CLIPS = 450  # more tell smaller differences apart: the variance grows with the root of their number
PROBE_SHARES = (0.5, 1.0, 2.0, 4.0, 8.0)  # how much a probe may count beside the words
UNITS, LAYERS = 256, 2  # hidden units that are trained together, and how many such layers' answers are averaged
EPOCHS, CLIPS_AT_ONCE = 40, 128
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 0.1
STATES_DROPPED, UNITS_DROPPED, SMOOTHING = 0.3, 0.5, 0.05
TEMPERATURES = np.exp(np.linspace(np.log(0.3), np.log(8.0), 100))


# Probes of the embeddings


def fit_probes(
    types: Mapping[str, QuestionType], rows: Sequence[Row], states: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Fit a probe (options, features + 1) for each type on the audio states of training clips."""
    right = find_right(types, rows)
    probes = {}
    for name, kind in types.items():
        clips = [clip for clip in states if name in right.get(clip, ())]
        if clips:
            known = np.array([right[clip][name] for clip in clips])
            probes[name] = fit_probe(np.stack([states[clip] for clip in clips]), known, len(kind.answers))
    return probes


@torch.no_grad()
def read_states(model: PreTrainedModel, clips: Sequence[str], features: FeatureReader) -> dict[str, np.ndarray]:
    """Return the audio states (features,) that probes read of clips, without those whose features cannot be read."""
    states: dict[str, np.ndarray] = {}
    for part, batch in read_batches(features, clips):
        states.update(zip(part, model.read_probed(batch.to(model.device)).cpu().numpy(), strict=True))
    return states


def fit_probe(states: np.ndarray, right: np.ndarray, options: int) -> np.ndarray:
    """Fit a multinomial logistic regression on states (clips, features), its weights shrunk towards 0.

    Returns (options, features + 1), the constants last.
    """
    mean, spread = states.mean(axis=0), states.std(axis=0) + 1e-4
    inputs, targets = torch.from_numpy((states - mean) / spread), torch.from_numpy(right)
    weights = torch.zeros(options, states.shape[1], requires_grad=True)
    constants = torch.zeros(options, requires_grad=True)
    prior = PRIOR * max(1.0, len(states) / PRIOR_CLIPS) ** 0.5
    optimizer = torch.optim.LBFGS([weights, constants], max_iter=200, line_search_fn="strong_wolfe")

    def lose() -> torch.Tensor:
        optimizer.zero_grad()
        misses = torch.nn.functional.cross_entropy(inputs @ weights.T + constants, targets, reduction="sum")
        loss = misses + weights.square().sum() / (2 * prior)
        loss.backward()
        return loss

    optimizer.step(lose)
    slopes = weights.detach().numpy() / spread
    return np.column_stack([slopes, constants.detach().numpy() - slopes @ mean])


# Hidden units above the encoder's states


def fit_units(
    types: Mapping[str, QuestionType], rows: Sequence[Row], states: Mapping[str, np.ndarray]
) -> tuple[str, dict[str, np.ndarray]]:
    """Train hidden units on the standardised states of training clips, for all types at once, and probes of them.

    A clip counts for a type as often as rows ask about it. Returns the units as text, and a probe (options, units + 1)
    of each type; nothing of both without states.
    """
    right, asked = find_right(types, rows), Counter((row.clip_id, row.question_type) for row in rows)
    clips = [clip for clip in states if right.get(clip)]
    if not clips:
        return "", {}
    sizes = [len(kind.answers) for kind in types.values()]
    starts = dict(zip(types, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
    owners = torch.repeat_interleave(torch.eye(len(types)), torch.tensor(sizes), dim=1)
    weights, hits = torch.zeros(len(clips), len(types)), torch.zeros(len(clips), sum(sizes))
    for number, clip in enumerate(clips):
        for place, (name, start) in enumerate(starts.items()):
            if name in right[clip]:
                weights[number, place] = asked[clip, name]
                hits[number, start + right[clip][name]] = asked[clip, name]
    targets = (1 - SMOOTHING) * hits + SMOOTHING * (weights / torch.tensor(sizes)) @ owners
    inputs = torch.from_numpy(np.stack([states[clip] for clip in clips])).clamp(-FARTHEST, FARTHEST)
    layers = [train_layer(inputs, weights, targets, owners, seed) for seed in range(LAYERS)]
    hidden = torch.cat([torch.column_stack([one.weight, one.bias]) for one, _ in layers])
    biases = torch.stack([two.bias for _, two in layers]).sum(dim=0)
    probes = torch.column_stack([*(two.weight for _, two in layers), biases]) / LAYERS
    known = weights.sum(dim=0) > 0
    return HiddenUnits(hidden.detach()).to_text(), {
        name: one.detach().numpy() for name, one, some in zip(types, probes.split(sizes), known, strict=True) if some
    }


def train_layer(
    inputs: torch.Tensor, weights: torch.Tensor, targets: torch.Tensor, owners: torch.Tensor, seed: int
) -> tuple[nn.Linear, nn.Linear]:
    """Train a layer of units, and one from them to the options of all types, by AdamW with dropout.

    inputs: (clips, states). weights: (clips, types), how much a clip counts for a type. targets: (clips, options of
    all types), these weights where an option is right, smoothed within its type. owners: (types, options), 1 where an
    option is of a type. The loss is the cross-entropy of each type, summed over types.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, last = nn.Linear(inputs.shape[1], UNITS), nn.Linear(UNITS, targets.shape[1])
        optimizer = torch.optim.AdamW([*first.parameters(), *last.parameters()], weight_decay=WEIGHT_DECAY)
        steps = EPOCHS * math.ceil(len(inputs) / CLIPS_AT_ONCE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
        for _ in range(EPOCHS):
            for some in torch.randperm(len(inputs)).split(CLIPS_AT_ONCE):
                units = functional.gelu(first(functional.dropout(inputs[some], STATES_DROPPED)))
                options = last(functional.dropout(units, UNITS_DROPPED))
                totals = (options.exp() @ owners.T).log()  # of each type: the logits are small
                loss = ((totals * weights[some]).sum() - (options * targets[some]).sum()) / len(some)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return first, last


def read_units(states: np.ndarray, hidden: str) -> np.ndarray:
    """Return what probes read of the states of a clip: hidden units, given as text, above those of the encoder."""
    units = load_units(hidden)
    return states if units is None else units.read(torch.from_numpy(states)[None])[0].numpy()


# Which probe, and how much it counts


def widen_probes(
    probes: Mapping[str, np.ndarray], of_units: Mapping[str, np.ndarray]
) -> list[Mapping[str, np.ndarray]]:
    """Return probes of the embeddings and probes of hidden units as such of both, to choose from; without units as is.
    """
    if not of_units:
        return [probes]
    width, units = (next(iter(some.values())).shape[1] - 1 for some in (probes, of_units))
    return [
        {name: np.insert(one, [-1] * units, 0.0, axis=1) for name, one in probes.items()},
        {name: np.insert(one, [0] * width, 0.0, axis=1) for name, one in of_units.items()},
    ]


def add_probes(
    types: Mapping[str, QuestionType],
    decisions: Mapping[str, ScoredType],
    probes: Sequence[Mapping[str, np.ndarray]],
    states: Mapping[str, np.ndarray],
) -> dict[str, ScoredType]:
    """Give each type that of several probes, times the share of all types, with which its decisions are likeliest.

    states: of the clips that are decided about. Each probe and share is judged with the temperatures that suit it.
    There are no probes where they give less than the words alone. Returns the scores with them.
    """
    chosen, heard = {}, {}
    for name, one in decisions.items():
        known = np.stack([states[clip] for clip in one.clips])
        said = [(fit[name], known @ fit[name][:, :-1].T + fit[name][:, -1]) for fit in probes if name in fit]
        if said:
            chosen[name], heard[name] = max(said, key=lambda two: measure_likelihood([add_scores(one, two[1])]))
    shared = {0.0: dict(decisions)}
    for share in PROBE_SHARES:
        added = {name: add_scores(decisions[name], share * more) for name, more in heard.items()}
        shared[share] = {**decisions, **added}
    best = max(shared, key=lambda share: measure_likelihood(shared[share].values()))
    log.info("decision.json: probes on the audio states count %g times", best)
    for name in heard if best else ():
        types[name].probe = name_weights(list(types[name].answers), best * chosen[name])
    return shared[best]


def name_weights(options: Sequence[str], weights: np.ndarray) -> dict[str, list[float]]:
    """Return weights (options, numbers) by option, to four digits."""
    rows = zip(options, weights, strict=True)
    return {option: [float(f"{number:.4g}") for number in row] for option, row in rows}


def measure_likelihood(scored: Iterable[ScoredType]) -> float:
    """Return the sum of the right options' log-probabilities, each type at its best temperature."""
    return sum(-np.min(losses_by_temperature(one.scores, one.right)) * len(one.right) for one in scored)


# Scores of decisions


def add_scores(scored: ScoredType, more: np.ndarray) -> ScoredType:
    """Add shifts (options,) or what probes give (decisions, options) to log-probabilities."""
    return replace(scored, scores=log_probabilities(scored.scores + more, 1.0))


def fit_temperature(scores: np.ndarray, right: np.ndarray) -> float:
    """Return the temperature at which the right options are likeliest.

    Where the lowest one is best, hardly a decision was wrong, which does not show that none ever will be: then of n
    decisions (n + 1) / (n + 2) count as right (the rule of succession, as Platt 1999 smooths his targets).
    """
    losses = losses_by_temperature(scores, right)
    if int(np.argmin(losses)) == 0:
        losses = losses_by_temperature(scores, right, 1 / (len(right) + 2))
    return float(TEMPERATURES[int(np.argmin(losses))])


def losses_by_temperature(scores: np.ndarray, right: np.ndarray, wrong: float = 0.0) -> list[float]:
    """Return the mean loss of the right options, in nats, at each of the temperatures.

    wrong: what share of each decision counts for the other options, all alike.
    """
    targets = np.full(scores.shape, wrong / max(scores.shape[1] - 1, 1))
    targets[np.arange(len(right)), right] = 1 - wrong
    return [-(targets * log_probabilities(scores, value)).sum(axis=1).mean() for value in TEMPERATURES]
