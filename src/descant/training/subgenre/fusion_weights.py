"""How much the word of each modality counts in late fusion, by which others are there: fitted on validation tracks."""

from collections.abc import Callable

import torch
from transformers import PreTrainedModel

from descant.models.subgenre.configuration_subgenre import MODALITIES
from descant.models.subgenre.fusion_subgenre import SUBSETS
from descant.models.subgenre.modeling_subgenre import hierarchical_loss
from descant.training.subgenre.examples import ExampleInputs
from descant.training.subgenre.prediction import predict_probabilities

# Pulls weights to those of a mean, and shifts to 0 (in nats): few validation tracks should not turn a modality off.
PENALTY = 0.1


def set_prior(model: PreTrainedModel, labels: torch.Tensor) -> None:
    """Lets a late fusion that knows nothing of a track go by how common labels (tracks, labels) are."""
    genres, subgenres = labels.split([len(model.config.genres), len(model.config.subgenres)], dim=1)
    known = genres[:, model.parents.cpu()].sum(dim=0)
    shares = torch.cat([(genres.sum(dim=0) + 0.5) / (len(labels) + 1), (subgenres.sum(dim=0) + 0.5) / (known + 1)])
    model.fusion.shifts[0] = shares.logit().to(model.fusion.shifts)


def fit_weights(model: PreTrainedModel, examples: ExampleInputs, pad_token_id: int) -> None:
    """Sets weights and shifts of a late fusion, in place, to those with the lowest loss on `examples`.

    Each subset of the modalities has its own, for genres and for subgenres: one weight a modality and one shift,
    learnt from the examples that have the whole subset (stacking, Wolpert 1992; for one modality alone it is Platt's
    scaling, 1999). A subset that no example has keeps the weights of a mean.
    """
    words, there = read_words(model, examples, pad_token_id)
    fusion, genres = model.fusion, len(model.config.genres)
    level = (torch.arange(model.config.num_labels) >= genres).long()  # 0 of a genre, 1 of a subgenre
    for subset in range(1, SUBSETS):
        seen = [place for place in range(len(MODALITIES)) if subset >> place & 1]
        rows = there[:, seen].all(dim=1)
        if rows.any():
            loss_of = _judge(model, words[seen][:, rows], examples.labels[rows], level)
            weights, shifts = _fit(loss_of, len(seen))
            fusion.weights[subset, seen] = weights[:, level].to(fusion.weights)
            fusion.shifts[subset] = shifts[level].to(fusion.shifts)


def read_words(
    model: PreTrainedModel, examples: ExampleInputs, pad_token_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """What each modality says (modalities, examples, labels), and whether it is there (examples, modalities)."""
    heard: list[torch.Tensor] = []
    hook = model.fusion.register_forward_hook(lambda _, __, fused: heard.append(fused.words.float().cpu()))
    predict_probabilities(model, examples, pad_token_id)
    hook.remove()
    return torch.cat(heard, dim=1), examples.there.bool()


def _judge(
    model: PreTrainedModel, words: torch.Tensor, labels: torch.Tensor, level: torch.Tensor
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The loss of weights (modalities, levels) and shifts (levels,) on the words of some tracks."""
    genres, parents = len(model.config.genres), model.parents.cpu()

    def loss_of(weights: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
        raw = (weights[:, None, level] * words).sum(dim=0) + shifts[level]
        return hierarchical_loss(raw[:, :genres], raw[:, genres:], labels, parents).mean()

    return loss_of


def _fit(
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], modalities: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best weights, which are above 0, and shifts."""
    logs, shifts = torch.zeros(modalities, 2, requires_grad=True), torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.LBFGS([logs, shifts], max_iter=50, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(logs.exp() / modalities, shifts) + PENALTY * (logs.square().sum() + shifts.square().sum())
        loss.backward()
        return loss

    optimizer.step(step)
    return (logs.exp() / modalities).detach(), shifts.detach()
