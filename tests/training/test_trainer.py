"""Learning rates by part of the model, and adapters on the modules that the model names."""

import pytest
import torch
from tiny import build_tiny_model

from descant.training.lora import add_lora
from descant.training.trainer import scale_learning_rate


def test_chosen_parameters_get_a_share_of_the_learning_rate_and_none_is_lost():
    layers = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))
    optimizer = torch.optim.AdamW(layers.parameters(), lr=0.1)
    scale_learning_rate(optimizer, layers[0].parameters(), 0.5)
    rates = {id(one): group["lr"] for group in optimizer.param_groups for one in group["params"]}
    assert [rates[id(one)] for one in layers.parameters()] == pytest.approx([0.05, 0.05, 0.1, 0.1, 0.1, 0.1])


def test_lora_trains_adapters_and_the_audio_encoder_alone():
    model, _ = build_tiny_model()
    trained = {name for name, weight in add_lora(model, rank=2).named_parameters() if weight.requires_grad}
    assert trained
    assert all("lora_" in name or "audio_encoder" in name for name in trained)
    assert any("encoder_attn.q_proj" in name for name in trained)


def test_a_model_that_names_no_modules_is_refused():
    with pytest.raises(ValueError, match="names no lora_target_modules"):
        add_lora(torch.nn.Linear(2, 2), rank=2)
