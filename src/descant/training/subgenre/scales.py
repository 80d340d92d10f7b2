"""How much the word of each modality counts in late fusion: fitted on validation tracks, as a temperature would be."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import torch
from transformers import PreTrainedModel

from descant.models.subgenre.configuration_subgenre import MODALITIES
from descant.models.subgenre.modeling_subgenre import hierarchical_loss
from descant.training.subgenre.examples import ExampleInputs
from descant.training.subgenre.prediction import predict_probabilities

# Pulls logarithms of scales, and shifts, to 0 (in nats): few validation tracks should not turn a modality off.
PENALTY = 0.02
# Scales are for modalities that meet: alone, one names the same genre at any scale.
SUBSETS = [list(one) for size in (2, 3) for one in combinations(range(len(MODALITIES)), size)]
EVERY_SUBSET = [[one] for one in range(len(MODALITIES))] + SUBSETS


def fit_scales(model: PreTrainedModel, examples: ExampleInputs, pad_token_id: int) -> None:
    """Sets scales and shifts of a late fusion, in place, to those with the lowest loss on `examples`.

    First the scales, then a shift of all genres and one of all subgenres for each modality that is there. The loss is
    the mean over subsets of the modalities, for each must be weighed rightly when others are missing (after Platt,
    Probabilistic Outputs for Support Vector Machines, 1999, and Guo et al., On Calibration of Neural Networks, 2017).
    """
    words = expert_logits(model, examples, pad_token_id)
    there = torch.stack([one["modality_mask"][0] for one in examples.inputs]).T[:, :, None]  # (3, examples, 1)
    truth = torch.from_numpy(np.stack([example.labels for example in examples.examples]))
    bias, parents = model.fusion.bias.detach().float().cpu(), torch.tensor(model.config.parents, dtype=torch.long)
    genres = len(model.config.genres)
    is_genre = torch.arange(truth.shape[1]) < genres
    logs = torch.zeros(len(MODALITIES), requires_grad=True)
    levels = torch.zeros(len(MODALITIES) + 1, 2, requires_grad=True)

    def loss_of(subsets: list[list[int]]) -> torch.Tensor:
        shifts = torch.where(is_genre, levels[:, :1], levels[:, 1:])  # (modalities + 1, labels)
        said = logs.exp()[:, None, None] * words + shifts[:-1, None] * there
        raw = [bias + shifts[-1] + said[subset].sum(dim=0) for subset in subsets]
        losses = [hierarchical_loss(one[:, :genres], one[:, genres:], truth, parents) for one in raw]
        return torch.stack(losses).mean() + PENALTY * (logs.square().sum() + levels.square().sum())

    _minimise([logs], lambda: loss_of(SUBSETS))
    _minimise([levels], lambda: loss_of(EVERY_SUBSET))
    model.fusion.scales.copy_(logs.detach().exp())
    model.fusion.shifts.copy_(torch.where(is_genre, levels[:, :1], levels[:, 1:]).detach())


def expert_logits(model: PreTrainedModel, examples: ExampleInputs, pad_token_id: int) -> torch.Tensor:
    """What each modality alone adds to a new model's logits (modalities, examples, labels); 0 where a track lacks it.

    It is read with scales of 1 and without shifts, to which those of the model are set.
    """
    model.fusion.scales.fill_(1.0)
    model.fusion.shifts.zero_()
    heard: list[torch.Tensor] = []
    hook = model.fusion.register_forward_hook(lambda _, __, raw: heard.append(raw.detach().float().cpu()))
    words = []
    for modality in MODALITIES:
        heard.clear()
        predict_probabilities(model, examples, pad_token_id, modalities=[modality])
        words.append(torch.cat(heard) - model.fusion.bias.detach().float().cpu())
    hook.remove()
    return torch.stack(words)


def _minimise(parameters: list[torch.Tensor], loss_of: Callable[[], torch.Tensor]) -> None:
    optimizer = torch.optim.LBFGS(parameters, max_iter=50, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        return loss

    optimizer.step(step)
