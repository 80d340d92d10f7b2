"""The loss without logits: value and gradients of the plain computation, slice by slice."""

import pytest
import torch
from torch.nn import functional

from descant.models.lp_music_caps import loss_lp_music_caps
from descant.models.lp_music_caps.loss_lp_music_caps import linear_cross_entropy

POSITIONS, WIDTH, VOCABULARY = 23, 8, 37


def head() -> tuple[torch.Tensor, ...]:
    """States, weight and bias of a head, large enough for clear preferences, and labels with gaps."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(POSITIONS, WIDTH, generator=generator)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator)
    bias = torch.randn(1, VOCABULARY, generator=generator)
    labels = torch.randint(0, VOCABULARY, (POSITIONS,), generator=generator)
    labels[::5] = -100
    return states.requires_grad_(), weight.requires_grad_(), bias, labels


def plain(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor, smoothing: float):
    logits = functional.linear(states, weight) + bias
    return functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum")


@pytest.mark.parametrize("rows", [4, 512])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradients_are_those_of_the_logits(smoothing, rows, monkeypatch):
    monkeypatch.setattr(loss_lp_music_caps, "ROWS_AT_ONCE", rows)
    ours, theirs = head(), head()
    mine = linear_cross_entropy(*ours, smoothing) / 18
    expected = plain(*theirs, smoothing) / 18
    mine.backward()
    expected.backward()
    torch.testing.assert_close(mine, expected, atol=1e-6, rtol=1e-6)
    for got, wanted in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(got.grad, wanted.grad, atol=1e-6, rtol=1e-6)


def test_a_frozen_head_gets_no_gradient():
    states, weight, bias, labels = head()
    linear_cross_entropy(states, weight.detach(), bias, labels, 0.1).backward()
    expected = head()
    plain(*expected, 0.1).backward()
    torch.testing.assert_close(states.grad, expected[0].grad)


def test_positions_that_do_not_count_have_no_say():
    states, weight, bias, labels = head()
    counted = labels != -100
    whole = linear_cross_entropy(states, weight, bias, labels, 0.1)
    assert whole == linear_cross_entropy(states[counted], weight, bias, labels[counted], 0.1)
    whole.backward()
    assert not states.grad[~counted].any()
    assert states.grad[counted].all()


def test_a_batch_without_a_label_costs_nothing():
    states, weight, bias, labels = head()
    loss = linear_cross_entropy(states, weight, bias, torch.full_like(labels, -100), 0.1)
    loss.backward()
    assert loss == 0
    assert not weight.grad.any()


def test_under_autocast_the_loss_is_near_float32_s():
    states, weight, bias, labels = head()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_cross_entropy(states, weight, bias, labels, 0.1)
    loss.backward()
    expected = head()
    plain(*expected, 0.1).backward()
    assert loss.dtype == states.grad.dtype == weight.grad.dtype == torch.float32
    torch.testing.assert_close(loss, plain(*expected, 0.1), rtol=0.01, atol=0)
    torch.testing.assert_close(weight.grad, expected[1].grad, rtol=0.05, atol=0.05)


def test_a_second_pass_over_the_same_graph_is_refused():
    loss = linear_cross_entropy(*head(), 0.1)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
