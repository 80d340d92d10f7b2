"""Tests of how windows are gathered by track, and of the two fusions."""

import pytest
import torch
from torch import nn

from descant.models.subgenre import SubgenreConfig
from descant.models.subgenre.fusion_subgenre import SubgenreCrossAttention, SubgenreLateFusion, mean_by_group, to_rows

CONFIG = SubgenreConfig(label_tree={"rock": ["punk"], "jazz": []}, hidden_size=4, num_attention_heads=2)


def fuse(fusion: nn.Module, mask: list[list[int]], windows: torch.Tensor | None = None) -> torch.Tensor:
    """Two tracks: the first with two windows of lyrics and one of captions, the second with one of lyrics."""
    generator = torch.Generator().manual_seed(0)
    own, audio = torch.randn(4, 4, generator=generator), torch.randn(2, 4, generator=generator)
    row, kind = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 0])
    return fusion(own if windows is None else windows, row, kind, audio, torch.tensor(mask, dtype=torch.float)).logits


def build(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    fusion = kind(CONFIG).eval()
    for weight in fusion.parameters():
        nn.init.normal_(weight)
    return fusion


def test_the_mean_of_a_place_without_vectors_is_zero() -> None:
    vectors = torch.tensor([[2.0, 0.0], [4.0, 2.0], [1.0, 1.0]])
    found = mean_by_group(vectors, torch.tensor([2, 2, 0]), 4)
    assert found.tolist() == [[1, 1], [0, 0], [3, 1], [0, 0]]
    assert mean_by_group(vectors[:0], torch.zeros(0, dtype=torch.long), 2).tolist() == [[0, 0], [0, 0]]


def test_windows_are_laid_out_by_row() -> None:
    windows = torch.arange(1.0, 5.0)[:, None]
    visible = torch.tensor([True, False, True, True])
    filled, there = to_rows(windows, torch.tensor([0, 0, 2, 2]), visible, 3)
    assert filled[:, :, 0].tolist() == [[1, 2], [0, 0], [3, 4]]
    assert there.tolist() == [[True, False], [False, False], [True, True]]


def test_no_windows_are_no_places() -> None:
    filled, there = to_rows(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), torch.zeros(0).bool(), 2)
    assert filled.shape == (2, 0, 3) and there.shape == (2, 0)


def test_late_fusion_adds_up_what_each_modality_says() -> None:
    fusion = build(SubgenreLateFusion)
    lyrics, captions, audio = (fuse(fusion, [[int(place == kept) for place in range(3)]] * 2) for kept in range(3))
    torch.testing.assert_close(fuse(fusion, [[1, 1, 1]] * 2), (lyrics + captions + audio) / 3)
    fusion.weights[0b101] = torch.tensor([0.2, 0.0, 0.7])[:, None]
    fusion.shifts[0b101] = 0.5
    found = fuse(fusion, [[1, 0, 1], [1, 1, 1]])
    torch.testing.assert_close(found[0], 0.2 * lyrics[0] + 0.7 * audio[0] + 0.5)
    torch.testing.assert_close(found[1], (lyrics[1] + captions[1] + audio[1]) / 3)


@pytest.mark.parametrize("kind", [SubgenreLateFusion, SubgenreCrossAttention])
def test_what_is_masked_makes_no_difference(kind: type[nn.Module]) -> None:
    fusion, mask = build(kind), [[0, 1, 1], [0, 0, 1]]
    others = torch.randn(4, 4) + 5
    others[2] = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))[2]  # the captions stay as they are
    torch.testing.assert_close(fuse(fusion, mask, others), fuse(fusion, mask))
    assert not torch.allclose(fuse(fusion, [[1, 1, 1], [1, 0, 1]], others), fuse(fusion, [[1, 1, 1], [1, 0, 1]]))


@pytest.mark.parametrize("kind", [SubgenreLateFusion, SubgenreCrossAttention])
def test_a_track_of_which_nothing_is_there_still_gets_a_score(kind: type[nn.Module]) -> None:
    scores = fuse(build(kind), [[0, 0, 0], [0, 0, 0]])
    assert scores.isfinite().all()
    torch.testing.assert_close(scores[0], scores[1])
