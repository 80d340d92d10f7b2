"""Tests of packing: where prompts are cut, and who sees whom."""

import pytest
import torch

from descant.models.mert_lm.packing_mert_lm import pack_rows, split_prompts, up_to_last

AUDIO = 99


def test_prompts_are_cut_behind_the_audio_and_tails_end_together() -> None:
    ids = torch.tensor([[0, 0, 5, AUDIO, AUDIO, 7], [5, AUDIO, AUDIO, 6, 7, 8]])
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    split = split_prompts(ids, mask, AUDIO)
    assert split.head_ids.tolist() == [[5, AUDIO, AUDIO]] * 2
    assert split.tail_ids.tolist() == [[0, 0, 7], [6, 7, 8]]
    assert split.tail_mask.tolist() == [[0, 0, 1], [1, 1, 1]]


@pytest.mark.parametrize("row", [[5, 6, AUDIO, 7], [5, 6, 7, 8]])
def test_prompts_that_differ_before_the_audio_s_end_are_refused(row: list[int]) -> None:
    ids = torch.tensor([[5, AUDIO, 7, 7], row])
    with pytest.raises(ValueError, match="differ before the end of the audio"):
        split_prompts(ids, torch.ones_like(ids), AUDIO)


def test_a_tail_sees_the_head_and_itself_and_never_another_or_padding() -> None:
    heads, tails = torch.zeros(3, 2, 1), torch.zeros(3, 3, 1)
    tail_mask = torch.tensor([[0, 1, 1], [1, 1, 0], [1, 0, 0]])
    packed = pack_rows(heads, tails, tail_mask, torch.tensor([0, 0, 1]), clips=2)
    assert (packed.mask[0, 0] == 0).int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 1, 1],
    ]
    assert packed.positions[0].tolist() == [0, 1, 2, 3, 2, 3]
    assert (packed.mask[1, 0, :3] == 0).int().tolist() == [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]]


def test_rows_come_back_in_their_order_and_padding_takes_no_place() -> None:
    tails = torch.arange(1.0, 10).reshape(3, 3, 1)
    tail_mask = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 1, 1]])
    packed = pack_rows(torch.zeros(3, 1, 1), tails, tail_mask, torch.tensor([1, 0, 1]), clips=2)
    assert packed.embeds[..., 0].tolist() == [[0, 5, 6, 0, 0, 0], [0, 1, 2, 7, 8, 9]]
    kept = tail_mask.bool()
    assert torch.equal(packed.rows(packed.embeds)[kept], tails[kept])


def test_only_what_lies_behind_the_last_label_is_padding() -> None:
    counted = torch.tensor([[True, False, True, False], [False, False, False, False]])
    assert up_to_last(counted).tolist() == [[1, 1, 1, 0], [0, 0, 0, 0]]
