"""Tests that the packed encoder computes what the model's own computes."""

import pytest
import torch
from answering_model import AnsweringModel

from descant.models.lp_music_caps.fast_encoder_lp_music_caps import FastEncoder
from descant.models.lp_music_caps.precision_tiers_lp_music_caps import has_bfloat16


@pytest.mark.parametrize("questions", [1, 5])
def test_states_are_those_of_the_models_own_encoder(taught: AnsweringModel, questions: int) -> None:
    batch = taught.ask(questions, seed=8000)
    expected, mask = taught.model.encode(**batch)
    actual, same_mask = taught.model.encode(**batch, encoder=FastEncoder(taught.model))
    assert torch.equal(mask, same_mask)
    heard = mask.bool()
    torch.testing.assert_close(actual[0][heard], expected[0][heard], atol=1e-5, rtol=1e-5)


def test_lower_tiers_encode_in_bfloat16_where_the_processor_has_it(taught: AnsweringModel) -> None:
    batch = taught.ask(3, seed=8001)
    exact, mask = taught.model.encode(**batch)
    rough, _ = taught.model.encode(**batch, encoder=FastEncoder(taught.model, tier="int8"))
    error = (rough[0] - exact[0])[mask.bool()].abs()
    assert rough[0].dtype == torch.float32
    assert error.max() < 0.2
    assert (error.max() > 1e-4) == has_bfloat16()
