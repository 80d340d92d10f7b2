"""The loss: equal to transformers' label smoother, and to one batch's when accumulated."""

import pytest
import torch
from transformers.trainer_pt_utils import LabelSmoother

from descant.training.loss import smoothed_cross_entropy


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 7, 11, generator=generator)
    labels = torch.randint(0, 11, (6, 7), generator=generator)
    labels[torch.rand(6, 7, generator=generator) < 0.3] = -100
    return logits, labels


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_the_trainer_s_label_smoother(batch, smoothing):
    logits, labels = batch
    expected = LabelSmoother(epsilon=smoothing)({"logits": logits}, labels.clone())
    assert torch.allclose(smoothed_cross_entropy(smoothing)({"logits": logits}, labels), expected, atol=1e-6)


def test_parts_of_a_batch_add_up_to_the_whole(batch):
    logits, labels = batch
    loss, items = smoothed_cross_entropy(0.1), labels.ne(-100).sum()
    parts = [loss({"logits": logits[at]}, labels[at], items) for at in (slice(0, 1), slice(1, 6))]
    assert torch.allclose(sum(parts), loss({"logits": logits}, labels), atol=1e-6)
