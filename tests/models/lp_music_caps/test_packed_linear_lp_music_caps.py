"""Tests that packed linear layers compute what torch's do."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu

from descant.models.lp_music_caps.packed_linear_lp_music_caps import FixedRowsLinear, PackedLinear, StackedLinear


@pytest.mark.parametrize("kind", [PackedLinear, partial(FixedRowsLinear, rows=5), StackedLinear], ids=str)
def test_packed_layers_give_the_results_of_each(kind: Callable) -> None:
    torch.manual_seed(0)
    first, second, rows = nn.Linear(24, 40), nn.Linear(24, 7), torch.randn(5, 24)
    both = kind([first.weight, second.weight], [first.bias, second.bias])
    torch.testing.assert_close(both(rows), torch.cat([first(rows), second(rows)], dim=1))
    packed, residual = kind([first.weight], [first.bias]), torch.randn(5, 40)
    torch.testing.assert_close(packed(rows, "gelu"), gelu(first(rows)))
    torch.testing.assert_close(packed.add_to(residual, rows), residual + first(rows))


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    torch.manual_seed(0)
    layer, rows = nn.Linear(64, 128), torch.randn(33, 64)
    packed = PackedLinear([layer.weight], [layer.bias])
    together = packed(rows)
    assert all(torch.equal(packed(rows[:count]), together[:count]) for count in (1, 5, 32))
