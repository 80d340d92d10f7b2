"""What a classifier says about examples, with all that they have or with some of it hidden."""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from descant.evaluation.labels import LabelPredictions
from descant.models.subgenre.configuration_subgenre import MODALITIES, SubgenreConfig
from descant.models.subgenre.modeling_subgenre import list_thresholds, name_labels
from descant.training.subgenre.examples import ExampleInputs, Inputs, join_inputs


@torch.no_grad()
def predict_probabilities(
    model: PreTrainedModel, examples: ExampleInputs, pad_token_id: int, batch_size: int = 64,
    modalities: Collection[str] = MODALITIES,
) -> np.ndarray:  # fmt: skip
    """Probabilities (examples, labels), genres first; `modalities` names those that the model may use."""
    training = model.training
    model.eval()
    visible = mark_visible(modalities)
    found = []
    for start in range(0, len(examples), batch_size):
        batch = join_inputs(examples.inputs[start : start + batch_size], pad_token_id)
        batch["modality_mask"] = batch["modality_mask"] * visible
        batch = {name: value.to(model.device) for name, value in _without_hidden_texts(batch, visible).items()}
        found.append(model(**batch).logits.float().sigmoid().cpu())
    model.train(training)
    return torch.cat(found).numpy()


def mark_visible(modalities: Collection[str]) -> torch.Tensor:
    """Which of lyrics, captions and audio are among some modalities, (3,) of 0 and 1."""
    return torch.tensor([int(one in modalities) for one in MODALITIES])


def decide(probabilities: np.ndarray, config: SubgenreConfig, there: torch.Tensor) -> LabelPredictions:
    """Probabilities with the labels that the model's thresholds let it name.

    there: (tracks, modalities), what each track was seen with.
    """
    return decide_with(probabilities, list_thresholds(config, there), config.parents)


def decide_with(probabilities: np.ndarray, thresholds: torch.Tensor, parents: Sequence[int]) -> LabelPredictions:
    """As `decide`, with thresholds (labels,) or (tracks, labels), and the genre of each subgenre."""
    genres = probabilities.shape[1] - len(parents)
    named = name_labels(torch.from_numpy(probabilities), thresholds, torch.tensor(parents, dtype=torch.long))
    return LabelPredictions(probabilities[:, :genres], probabilities[:, genres:], named[:, genres:].numpy())


def _without_hidden_texts(batch: Inputs, visible: torch.Tensor) -> Inputs:
    """The batch without windows that no fusion may look at: they need not be encoded."""
    if "text_kind" not in batch:
        return batch
    kept = visible[:2].bool()[batch["text_kind"]]
    if kept.any():
        return {name: value[kept] if name.startswith("text_") else value for name, value in batch.items()}
    return {name: value for name, value in batch.items() if not name.startswith("text_")}
