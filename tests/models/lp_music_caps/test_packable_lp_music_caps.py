"""Tests of which models are packed: others fall back to transformers' loop, by name."""

import copy

import pytest
import torch
from answering_model import AnsweringModel
from torch import nn
from torch.nn.utils import prune

from descant.models.lp_music_caps import LPMusicCapsForConditionalGeneration
from descant.models.lp_music_caps.generation_settings_lp_music_caps import NotCovered
from descant.models.lp_music_caps.packable_lp_music_caps import check_packable


@pytest.fixture
def own(taught: AnsweringModel) -> LPMusicCapsForConditionalGeneration:
    return copy.deepcopy(taught.model)


def put_in_training_mode(model: nn.Module) -> None:
    model.train()


def leave_dropout_on(model: nn.Module) -> None:
    model.model.decoder.layers[1].train()


def make_half(model: nn.Module) -> None:
    model.to(torch.bfloat16)


def leave_on_the_meta_device(model: nn.Module) -> None:
    model.model.decoder.layers[1].fc2.to("meta")


class LoraLinear(nn.Linear):
    """As an adapter library replaces layers."""


def replace_a_layer(model: nn.Module) -> None:
    model.model.decoder.layers[0].self_attn.q_proj = LoraLinear(32, 32)


def wrap_a_layer_of_the_encoder(model: nn.Module) -> None:
    model.model.encoder.layers[1].fc1 = nn.Sequential(model.model.encoder.layers[1].fc1)


def prune_a_layer(model: nn.Module) -> None:
    prune.l1_unstructured(model.model.decoder.layers[0].fc1, "weight", 0.9)


def steer(model: nn.Module) -> None:
    model.model.encoder.layers[0].register_forward_hook(lambda layer, heard, told: told.flip(-1))


def replace_forward(model: nn.Module) -> None:
    model.model.decoder.layers[0].fc1.forward = lambda rows: rows @ rows.new_ones(32, 64)


def give_the_head_a_bias(model: nn.Module) -> None:
    model.lm_head.bias = nn.Parameter(torch.linspace(-9, 9, 300), requires_grad=False)


CASES = [
    (put_in_training_mode, "training mode"),
    (leave_dropout_on, "training mode"),
    (make_half, "bfloat16"),
    (leave_on_the_meta_device, "weights on cpu, meta"),
    (replace_a_layer, "LoraLinear"),
    (wrap_a_layer_of_the_encoder, "Sequential"),
    (prune_a_layer, "hooks"),
    (steer, "hooks"),
    (replace_forward, "hooks"),
    (give_the_head_a_bias, "bias of the vocabulary head"),
]


@pytest.mark.parametrize(("change", "reason"), CASES, ids=[change.__name__ for change, _ in CASES])
def test_a_model_that_cannot_be_packed_is_refused_by_name(own, change, reason: str) -> None:
    check_packable(own)
    change(own)
    with pytest.raises(NotCovered, match=reason):
        check_packable(own)


@pytest.mark.parametrize("change", [prune_a_layer, steer, replace_forward, give_the_head_a_bias])
def test_such_a_model_answers_as_transformers_has_it(own, taught: AnsweringModel, change) -> None:
    asked = taught.ask(24, seed=7000) | {"max_length": 12}
    before = own.generate(**asked)
    change(own)
    told = own.generate(**asked)
    assert torch.equal(told, own.generate(**asked, fast=False))
    assert not torch.equal(told, before)  # or the change says nothing


def test_a_model_that_was_asked_for_hidden_states_is_still_packed(own, taught: AnsweringModel) -> None:
    own(**taught.ask(2, seed=7000), labels=torch.tensor([[0, 70, 2]] * 2), output_hidden_states=True)
    assert any(layer._forward_hooks for layer in own.model.decoder.layers)  # or the test says nothing
    check_packable(own)


def test_autocast_is_left_to_transformers(own: LPMusicCapsForConditionalGeneration) -> None:
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(NotCovered, match="autocast"):
        check_packable(own)
