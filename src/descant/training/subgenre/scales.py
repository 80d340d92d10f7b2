"""How much the word of each modality counts in late fusion: fitted on validation tracks, as a temperature would be."""

from itertools import combinations

import numpy as np
import torch
from transformers import PreTrainedModel

from descant.models.subgenre.configuration_subgenre import MODALITIES
from descant.models.subgenre.modeling_subgenre import hierarchical_loss
from descant.training.subgenre.examples import ExampleInputs
from descant.training.subgenre.prediction import predict_probabilities

# Pulls the logarithms of the scales to 0, in nats: few validation tracks should not turn a modality off.
PENALTY = 0.05


def fit_scales(model: PreTrainedModel, examples: ExampleInputs, pad_token_id: int) -> None:
    """Sets the scales of a late fusion, in place, to those with the lowest loss on `examples`.

    The loss is the mean over all subsets of the modalities, for each of them must be weighed rightly when others are
    missing (the scaling of Guo et al., On Calibration of Modern Neural Networks, 2017, with a scale a modality).
    """
    words = expert_logits(model, examples, pad_token_id)
    truth = torch.from_numpy(np.stack([example.labels for example in examples.examples]))
    bias, parents = model.fusion.bias.detach().float().cpu(), torch.tensor(model.config.parents, dtype=torch.long)
    genres = len(model.config.genres)
    subsets = [list(one) for size in (1, 2, 3) for one in combinations(range(len(MODALITIES)), size)]
    logs = torch.zeros(len(MODALITIES), requires_grad=True)
    optimizer = torch.optim.LBFGS([logs], max_iter=50, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        scaled = logs.exp()[:, None, None] * words
        raw = [bias + scaled[subset].sum(dim=0) for subset in subsets]
        losses = [hierarchical_loss(one[:, :genres], one[:, genres:], truth, parents) for one in raw]
        loss = torch.stack(losses).mean() + PENALTY * logs.square().sum()
        loss.backward()
        return loss

    optimizer.step(step)
    model.fusion.scales.copy_(logs.detach().exp())


def expert_logits(model: PreTrainedModel, examples: ExampleInputs, pad_token_id: int) -> torch.Tensor:
    """What each modality alone adds to the logits (modalities, examples, labels); 0 where a track has none of it."""
    heard: list[torch.Tensor] = []
    hook = model.fusion.register_forward_hook(lambda _, __, raw: heard.append(raw.detach().float().cpu()))
    words = []
    for modality in MODALITIES:
        heard.clear()
        predict_probabilities(model, examples, pad_token_id, modalities=[modality])
        words.append(torch.cat(heard) - model.fusion.bias.detach().float().cpu())
    hook.remove()
    return torch.stack(words)
