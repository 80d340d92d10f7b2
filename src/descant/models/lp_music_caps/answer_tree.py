"""The sentences of a typed question's options as one tree of tokens, and how they are scored.

An option's score is a product of two experts: the language model, which gives the probability of the sentences that
state it, and a probe on the audio embeddings, or on hidden units above the encoder's states. This file lies in the
folder of every question-answering model, byte for byte the same.
"""

import base64
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

NODES_AT_ONCE = 256  # of a tree; questions like those of training have fewer
FARTHEST = 5.0  # standard deviations from the mean that a state counts for: what is unlike all training is no proof


def pool_states(audio_embeds: torch.Tensor) -> torch.Tensor:
    """Return the mean and the standard deviation over time of audio embeddings (windows, positions, width).

    Gives (windows, 2 × width).
    """
    states = audio_embeds.float()
    return torch.cat([states.mean(dim=1), states.std(dim=1, correction=0)], dim=1)


@dataclass(frozen=True)
class HiddenUnits:
    """One layer of units with GELU above an audio encoder's standardised states, which the probes of all types share.

    weights: (units, states + 1), the constants last.
    """

    weights: torch.Tensor

    def to_text(self) -> str:
        """Return the weights as base64 of a .npy file in float16: as digits they would be four times as long."""
        file = io.BytesIO()
        np.save(file, self.weights.numpy().astype(np.float16))
        return base64.b64encode(file.getvalue()).decode("ascii")

    def read(self, states: torch.Tensor) -> torch.Tensor:
        """Put the units in the place of the encoder's states, which are the last of `read_probed` (rows, features).

        Raises ValueError where there are fewer.
        """
        weights, inputs = self.weights.to(states), self.weights.shape[1] - 1
        if inputs > states.shape[1]:
            raise ValueError(
                f"decision.json has hidden units above {inputs} audio states, and there are {states.shape[1]}: it was "
                "fitted for another model, fit it again"
            )
        kept, read = states[:, :-inputs], states[:, -inputs:].clamp(-FARTHEST, FARTHEST)
        units = torch.nn.functional.gelu(read @ weights[:, :-1].T + weights[:, -1])
        return torch.cat([kept, units], dim=1)


@lru_cache(maxsize=2)
def load_units(text: str) -> HiddenUnits | None:
    """Read what `to_text` gives, None of an empty text; raises ValueError for any other."""
    if not text:
        return None
    numbers = np.load(io.BytesIO(base64.b64decode(text, validate=True)), allow_pickle=False)
    return HiddenUnits(torch.from_numpy(numbers.astype(np.float32)))


def find_hidden(trees: Iterable["AnswerTree"]) -> HiddenUnits | None:
    """Return the hidden units that the probes of trees read, which are the same for all; None where there are none."""
    return next((tree.hidden for tree in trees if tree.hidden is not None), None)


def read_hidden(states: torch.Tensor, trees: Iterable["AnswerTree"]) -> torch.Tensor:
    """Return what the probes of trees read, of what the model's `read_probed` gives: their hidden units, if any."""
    hidden = find_hidden(trees)
    return states if hidden is None else hidden.read(states)


@dataclass
class AnswerTree:
    """Sentences of all options as one tree of tokens, each as long as it takes to tell which option it states.

    tokens, depths: (nodes,), those with something behind them; node 0 is the decoder's start. visible: (nodes, nodes),
    whether a node is before another on its path, or is that node.
    nodes, nexts: (paths, longest), the node and the token behind it of each step; −1 behind a path's end.
    options, shifts: (paths,), the option that each path decides for, and what is added to its log-probability.
    weights: (paths, features), what each pooled audio state is multiplied by to be added as well; without features
        where there is no probe. hidden: the units that stand for the encoder's states among them, if any.
    """

    tokens: torch.Tensor
    depths: torch.Tensor
    visible: torch.Tensor
    nodes: torch.Tensor
    nexts: torch.Tensor
    options: torch.Tensor
    shifts: torch.Tensor
    weights: torch.Tensor
    hidden: HiddenUnits | None = None

    def split(self) -> "list[AnswerTree]":
        """Divide a large tree into trees of at most 256 nodes, or one path, with its paths in their order.

        Every node is held against every other of its tree, so that parts take less time and memory than the whole.
        """
        if len(self.tokens) <= NODES_AT_ONCE:
            return [self]
        groups, kept = list[list[int]]([[]]), set[int]()
        for path, nodes in enumerate(self.nodes.tolist()):
            own = {node for node in nodes if node >= 0}
            if groups[-1] and len(kept) + len(own - kept) > NODES_AT_ONCE:
                groups.append([])
                kept = set()
            groups[-1].append(path)
            kept |= own
        return [self._take(torch.tensor(group)) for group in groups]

    def _take(self, paths: torch.Tensor) -> "AnswerTree":
        """Return the tree of some of the paths."""
        nodes = self.nodes[paths]
        kept = nodes[nodes >= 0].unique()
        places = torch.full((len(self.tokens) + 1,), -1)  # the last one for the −1 behind a path's end
        places[kept] = torch.arange(len(kept))
        return AnswerTree(
            self.tokens[kept], self.depths[kept], self.visible[kept][:, kept], places[nodes], self.nexts[paths],
            self.options[paths], self.shifts[paths], self.weights[paths], self.hidden,
        )  # fmt: skip

    def read_paths(self, log_probs: torch.Tensor) -> torch.Tensor:
        """Add up log-probabilities of tokens (rows, nodes, vocabulary) to those of paths (rows, paths)."""
        steps = log_probs[:, self.nodes.clamp(min=0), self.nexts.clamp(min=0)]  # (rows, paths, longest)
        return (steps * (self.nodes >= 0).to(steps.device)).sum(dim=2)

    def gather(self, sums: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Join what `read_paths` gives, of all parts side by side, to log-probabilities of options (rows, options).

        states: (rows, features), from `read_hidden`. Raises ValueError where the probe is of other states.
        """
        paths = sums + self.shifts.to(sums)
        if self.weights.shape[1]:
            if self.weights.shape[1] != states.shape[1] + 1:
                raise ValueError(
                    f"decision.json has {self.weights.shape[1]} numbers for {states.shape[1]} audio states and a "
                    "constant: it was fitted for another model, fit it again"
                )
            weights = self.weights.to(sums)
            paths = paths + states.to(sums) @ weights[:, :-1].T + weights[:, -1]
        count = int(self.options.max()) + 1
        return torch.stack([paths[:, self.options == option].logsumexp(dim=1) for option in range(count)], dim=1)


def build_tree(
    sentences: Sequence[Sequence[Sequence[int]]],
    shifts: Sequence[Sequence[float]] | None = None,
    weights: Sequence[Sequence[Sequence[float]]] | None = None,
    hidden: HiddenUnits | None = None,
) -> AnswerTree:
    """Build the tree of the sentences (option → sentences → tokens); raises ValueError where two options share one.

    shifts: what is added to the log-probability of each sentence (option → sentences). weights: those of the pooled
        audio states and a constant (option → sentences → numbers), which are added as well. hidden: see `AnswerTree`.
    """
    owners: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
    for option, texts in enumerate(sentences):
        for tokens in texts:
            for end in range(1, len(tokens) + 1):
                owners[tuple(tokens[:end])].add(option)
    paths: dict[tuple[int, ...], int] = {}
    added: dict[tuple[int, ...], tuple[float, Sequence[float]]] = {}
    for option, texts in enumerate(sentences):
        added_shifts: Sequence[float] = shifts[option] if shifts else [0.0] * len(texts)
        added_weights: Sequence[Sequence[float]] = weights[option] if weights else [()] * len(texts)
        for tokens, shift, weight in zip(texts, added_shifts, added_weights, strict=True):
            path = deciding_prefix(tokens, owners)
            paths[path] = option
            added.setdefault(path, (shift, weight))
    inner = number_nodes(paths)
    longest = max(map(len, paths))
    return AnswerTree(
        tokens=torch.tensor([-1, *(prefix[-1] for prefix in list(inner)[1:])]),
        depths=torch.tensor([len(prefix) for prefix in inner]),
        visible=see_beginnings(inner),
        nodes=torch.tensor([pad([inner[path[:end]] for end in range(len(path))], longest) for path in paths]),
        nexts=torch.tensor([pad(list(path), longest) for path in paths]),
        options=torch.tensor(list(paths.values())),
        shifts=torch.tensor([added[path][0] for path in paths]),
        weights=torch.tensor([list(added[path][1]) for path in paths]),
        hidden=hidden,
    )


def number_nodes(paths: Iterable[tuple[int, ...]]) -> dict[tuple[int, ...], int]:
    """Map each proper beginning of a path, the empty one first, to the number of its node."""
    inner: dict[tuple[int, ...], int] = {(): 0}
    for path in paths:
        for end in range(1, len(path)):
            inner.setdefault(path[:end], len(inner))
    return inner


def see_beginnings(inner: Mapping[tuple[int, ...], int]) -> torch.Tensor:
    """Return (nodes, nodes): True where a node's beginning, or the node itself, is the other."""
    visible = torch.zeros(len(inner), len(inner), dtype=torch.bool)
    for prefix, node in inner.items():
        visible[node, [inner[prefix[:end]] for end in range(len(prefix) + 1)]] = True
    return visible


def deciding_prefix(tokens: Sequence[int], owners: Mapping[tuple[int, ...], set[int]]) -> tuple[int, ...]:
    """Return the shortest beginning of a sentence that no other option's sentence has."""
    for end in range(1, len(tokens) + 1):
        if len(owners[tuple(tokens[:end])]) == 1:
            return tuple(tokens[:end])
    raise ValueError("two options are stated by the same sentence: give options that differ")


def pad(numbers: list[int], length: int) -> list[int]:
    """Fill a list up to a length with −1."""
    return numbers + [-1] * (length - len(numbers))


__all__ = ["AnswerTree", "HiddenUnits", "build_tree", "find_hidden", "load_units", "pool_states", "read_hidden"]
