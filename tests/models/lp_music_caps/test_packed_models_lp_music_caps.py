"""Tests that packed weights follow the model's, however those change, and hold no model alive."""

import copy
import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from answering_model import AnsweringModel
from torch import nn
from torch.nn.utils import prune

from descant.models.lp_music_caps import LPMusicCapsForConditionalGeneration, generation_lp_music_caps
from descant.models.lp_music_caps.engine_lp_music_caps import check_packable, packed_model
from descant.models.lp_music_caps.packed_bart_lp_music_caps import (
    FixedRowsLinear,
    PackedLinear,
    computes_correctly,
    has_bfloat16,
)
from descant.models.lp_music_caps.search_lp_music_caps import (
    AnswerSettings,
    Capture,
    NotCovered,
    read_settings,
)


@pytest.fixture
def own(taught: AnsweringModel) -> LPMusicCapsForConditionalGeneration:
    return copy.deepcopy(taught.model)


def step_of_an_optimizer(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 0.01)
    optimizer.step()


def write_through_data(model: nn.Module) -> None:
    model.model.decoder.layers[1].fc1.weight.data += 0.1


def write_to_a_norm_through_data(model: nn.Module) -> None:
    model.model.decoder.layernorm_embedding.weight.data = model.model.decoder.layernorm_embedding.weight * 1.5


def write_to_the_encoder_through_data(model: nn.Module) -> None:
    model.model.encoder.layers[0].self_attn.out_proj.bias.data += 0.1


def replace_weight(model: nn.Module) -> None:
    layer = model.model.decoder.layers[0].encoder_attn.v_proj
    layer.weight = nn.Parameter(layer.weight.detach() * 1.5, requires_grad=False)


def load_other_weights(model: nn.Module) -> None:
    model.load_state_dict({name: weight * 0.9 for name, weight in model.state_dict().items()})


@pytest.mark.parametrize("change",
    [
        step_of_an_optimizer,
        write_through_data,
        write_to_a_norm_through_data,
        write_to_the_encoder_through_data,
        replace_weight,
        load_other_weights,
    ],
)
def test_changed_weights_are_packed_anew(own: LPMusicCapsForConditionalGeneration, taught, change) -> None:
    before = packed_model(own)
    assert packed_model(own) is before
    change(own)
    assert packed_model(own) is not before
    batch = taught.ask(8, seed=7000)
    assert torch.equal(own.generate(**batch, max_length=20), own.generate(**batch, max_length=20, fast=False))


def test_a_model_can_still_be_copied_and_freed(own: LPMusicCapsForConditionalGeneration) -> None:
    packed_model(own)
    gone = weakref.ref(copy.deepcopy(own))
    gc.collect()
    assert gone() is None
    packed = weakref.ref(packed_model(own))
    del own
    # pytest holds the fixture's value; what matters is that the entry holds the decoder's only reference.
    assert packed() is not None


def test_steps_of_always_as_many_rows_have_a_decoder_of_their_own(taught: AnsweringModel) -> None:
    packed = packed_model(taught.model)
    kinds = {beams: type(packed.engine(settings_of(taught, beams), slots=1).decoder.head) for beams in (1, 4, 5)}
    assert kinds == {1: PackedLinear, 4: FixedRowsLinear, 5: FixedRowsLinear}
    assert type(packed.engine(settings_of(taught, 5), slots=2).decoder.head) is PackedLinear
    assert len(packed.decoders) == 2
    stream = packed.engine(settings_of(taught, 5), slots=3, refilled=True)
    assert (type(stream.full.head), type(stream.decoder.head)) == (FixedRowsLinear, PackedLinear)
    assert {*packed.decoders} == {None, 15}
    int8 = packed_model(taught.model, "int8")
    assert int8.engine(settings_of(taught, 5), slots=1).decoder is int8.decoder()


def settings_of(taught: AnsweringModel, num_beams: int) -> AnswerSettings:
    return read_settings(taught.model, None, {"num_beams": num_beams})


def test_training_lets_go_of_packed_weights(own: LPMusicCapsForConditionalGeneration) -> None:
    packed = weakref.ref(packed_model(own))
    own.eval()
    assert packed() is not None
    own.train()
    assert packed() is None


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


def raise_error(error: Exception) -> Callable[..., torch.Tensor]:
    def run(*inputs: object) -> torch.Tensor:
        raise error

    return run


OPERATORS = {
    "renamed": raise_error(AttributeError("no such operator")),
    "another signature": raise_error(RuntimeError("expected at most 5 arguments")),
    "wrong numbers": lambda rows, weight, *others: torch.zeros(len(rows), 64),
}


@pytest.fixture
def fresh_self_test() -> Iterator[None]:
    computes_correctly.cache_clear()
    yield
    computes_correctly.cache_clear()


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
@pytest.mark.usefixtures("fresh_self_test")
def test_another_onednn_leaves_answering_to_transformers(
    own, taught: AnsweringModel, operator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = taught.ask(6, seed=7000) | {"max_length": 12}
    expected = own.generate(**asked, fast=False)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    monkeypatch.setattr(generation_lp_music_caps.logger, "warning_once", generation_lp_music_caps.logger.warning)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", operator)
    assert torch.equal(own.generate(**asked), expected)
    assert "the oneDNN of torch" in caplog.text and "transformers' own loop runs" in caplog.text
    with pytest.raises(ValueError, match="the oneDNN of torch"):
        own.generate(**asked, tier="fp32", vocabulary=[0, 1, 2])


@pytest.mark.usefixtures("fresh_self_test")
def test_a_torch_without_any_of_the_operators_still_answers(own, taught, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = taught.ask(6, seed=7000) | {"max_length": 12}
    expected = own.generate(**asked, fast=False)
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    assert torch.equal(own.generate(**asked), expected)
    with pytest.raises(NotCovered, match="the oneDNN of torch"):
        check_packable(own, "int8")


@pytest.mark.parametrize("tier", ["fp32", "int8", *(["bf16"] if has_bfloat16() else [])])
@pytest.mark.usefixtures("fresh_self_test")
def test_this_torch_passes_the_self_test_without_touching_random_numbers(tier: str) -> None:
    state = torch.get_rng_state()
    assert computes_correctly(tier)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_generate_that_calls_decoding_methods_otherwise_leaves_answering_to_transformers(
    own, taught: AnsweringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = taught.ask(6, seed=7000) | {"max_length": 12}
    expected = own.generate(**asked)
    monkeypatch.setattr(Capture, "__call__", lambda self, model, input_ids: input_ids)
    with pytest.raises(NotCovered, match="the generate of transformers"):
        read_settings(own, None, {})
    assert torch.equal(own.generate(**asked), expected)
