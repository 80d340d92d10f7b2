"""Tests of the classifier: probabilities in the tree, training, fusions, LoRA, any subset of modalities, saving."""

import math
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tiny_subgenre import AUDIO_DIM, LYRICS, TREE, build_tiny_subgenre, tracks
from torch import nn
from transformers import AutoModelForSequenceClassification

from descant.models.subgenre import SubgenreConfig, SubgenreForSequenceClassification, SubgenreProcessor
from descant.models.subgenre.fusion_subgenre import SubgenreCrossAttention, SubgenreLateFusion, mean_by_group, to_rows
from descant.models.subgenre.modeling_subgenre import hierarchical_loss, join_logits, name_labels
from descant.training.start import add_lora

Model = SubgenreForSequenceClassification
GENRES = len(TREE)
PARENTS = torch.tensor([0, 0, 1, 1, 1])


@pytest.fixture
def inputs(processor: SubgenreProcessor) -> dict[str, torch.Tensor]:
    return dict(processor(**tracks(), return_tensors="pt"))


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.tensor([[1, 0, 0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 1, 1, 0], [0, 0, 1] + [0] * 5, [1] + [0] * 7])


@torch.no_grad()
def test_no_subgenre_is_likelier_than_its_genre(model: Model, inputs: dict) -> None:
    logits = model(**inputs).logits
    assert logits.shape == (4, 8)
    assert (logits[:, GENRES:] <= logits[:, PARENTS]).all()
    assert logits.std() > 0.1  # or the line above would say little


@torch.no_grad()
def test_a_track_is_scored_alike_alone_and_in_a_batch(model: Model, processor: SubgenreProcessor) -> None:
    together = model(**processor(**tracks(), return_tensors="pt")).logits
    for row in range(4):
        alone = {name: column[row : row + 1] for name, column in tracks().items()}
        torch.testing.assert_close(model(**processor(**alone, return_tensors="pt")).logits, together[row : row + 1])


@torch.no_grad()
def test_windows_encoded_in_several_goes_give_the_same(
    model: Model, inputs: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = model(**inputs).logits
    monkeypatch.setattr("descant.models.subgenre.modeling_subgenre.WINDOWS_AT_ONCE", 2)
    torch.testing.assert_close(model(**inputs).logits, at_once)


@torch.no_grad()
def test_each_modality_counts_and_a_missing_one_does_not(model: Model, processor: SubgenreProcessor) -> None:
    own = {name: column[:1] for name, column in tracks().items()}
    full = model(**processor(**own, return_tensors="pt")).logits
    for name in own:
        fewer = dict(processor(**own | {name: [None]}, return_tensors="pt"))
        without = model(**fewer).logits
        assert (without - full).abs().max() > 1e-3, name
        inputs = dict(processor(**own, return_tensors="pt"))
        inputs["modality_mask"] = fewer["modality_mask"]  # there, but not to be looked at
        torch.testing.assert_close(model(**inputs).logits, without)


@torch.no_grad()
def test_a_track_of_which_nothing_is_known_gets_finite_scores(model: Model, processor: SubgenreProcessor) -> None:
    nothing = processor(lyrics=[None, LYRICS], return_tensors="pt")
    assert model(**nothing).logits.isfinite().all()
    bare = model(modality_mask=torch.zeros(1, 3, dtype=torch.long)).logits
    torch.testing.assert_close(bare, model(**nothing).logits[:1])


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.float32])
def test_the_mask_may_be_of_any_dtype(model: Model, inputs: dict, dtype: torch.dtype) -> None:
    expected = model(**inputs).logits
    assert torch.equal(model(**inputs | {"modality_mask": inputs["modality_mask"].to(dtype)}).logits, expected)
    model(modality_mask=inputs["modality_mask"].to(dtype), audio_embeds=inputs["audio_embeds"])


@torch.no_grad()
def test_half_precision_takes_float_embeddings(model: Model, inputs: dict) -> None:
    expected = model(**inputs).logits.sigmoid()
    torch.testing.assert_close(model.bfloat16()(**inputs).logits.sigmoid(), expected, atol=0.05, rtol=0)


def test_a_step_moves_every_trainable_weight(model: Model, inputs: dict, labels: torch.Tensor) -> None:
    model.train()
    model.config.modality_dropout = 0.0
    before = {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(**inputs, labels=labels).loss.backward()
    optimizer.step()
    still = [name for name, weight in model.named_parameters() if name in before and torch.equal(weight, before[name])]
    # A softmax does not change when all its inputs grow alike.
    unmovable = [name for name in still if name.endswith("k_lin.bias") or name == "text_scores.bias"]
    assert still == unmovable


def test_training_with_the_same_seed_gives_the_same(model: Model, inputs: dict, labels: torch.Tensor) -> None:
    model.train()
    losses = []
    for _ in range(2):
        torch.manual_seed(3)
        losses.append(model(**inputs, labels=labels).loss.item())
    assert losses[0] == losses[1]
    assert losses[0] != model(**inputs, labels=labels).loss.item()


def test_modality_dropout_hides_some_and_never_all() -> None:
    model = build_tiny_subgenre(modality_dropout=0.9)[0]
    mask = torch.tensor([[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]]).repeat(200, 1)
    torch.manual_seed(0)
    kept = model.hide_modalities(mask)
    assert (kept <= mask).all()
    assert torch.equal(kept.sum(1) > 0, mask.sum(1) > 0)
    assert kept.sum() < 0.8 * mask.sum()
    model.config.modality_dropout = 0.0
    assert torch.equal(model.hide_modalities(mask), mask)


def test_a_joint_logit_is_that_of_the_product() -> None:
    genre, given = torch.meshgrid(*[torch.linspace(-30, 30, 61, dtype=torch.float64)] * 2, indexing="ij")
    product = genre.sigmoid() * given.sigmoid()
    torch.testing.assert_close(join_logits(genre, given).sigmoid(), product, rtol=1e-9, atol=0)
    assert join_logits(torch.tensor(0.0), torch.tensor(0.0)).item() == pytest.approx(math.log(1 / 3))


def test_joint_logits_stay_finite_and_ordered_far_out() -> None:
    ends = torch.tensor([-1e30, -1e4, -90.0, 0.0, 90.0, 1e4, 1e30])
    genre, given = (one.clone().requires_grad_() for one in torch.meshgrid(ends, ends, indexing="ij"))
    joint = join_logits(genre, given)
    joint.sum().backward()
    assert joint.isfinite().all() and genre.grad.isfinite().all() and given.grad.isfinite().all()
    assert (joint <= torch.minimum(genre, given)).all()


def test_the_loss_is_the_chain_rule_done_by_hand() -> None:
    genre, given = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.5, -0.5, 3.0]])
    parents = torch.tensor([0, 0, 1])
    labels = torch.tensor([[1.0, 0.0, 0.0, 1.0, 0.0]])
    chances = [1 / (1 + math.exp(-2)), 1 - 1 / (1 + math.e), 1 - 1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(0.5))]
    by_hand = -sum(math.log(chance) for chance in chances)  # the third subgenre's genre is not the track's
    assert hierarchical_loss(genre, given, labels, parents).item() == pytest.approx(by_hand)


def test_late_fusion_is_judged_modality_by_modality(processor: SubgenreProcessor, labels: torch.Tensor) -> None:
    model = build_tiny_subgenre()[0]
    everything = tracks()
    together = model(**processor(**everything, return_tensors="pt"), labels=labels).loss
    alone = 0.0
    for row in range(4):
        for name, column in everything.items():
            if column[row] is not None:
                only = {name: [column[row]]} | ({} if name == "audio_embeds" else {"audio_embeds": [None]})
                alone += model(**processor(**only, return_tensors="pt"), labels=labels[row : row + 1]).loss / 4
    torch.testing.assert_close(together, alone)


def test_labels_are_named_from_their_threshold_on_and_never_without_their_genre() -> None:
    chances = torch.tensor([[0.4, 0.3, 0.1, 0.35, 0.1, 0.3, 0.1, 0.0], [0.2, 0.6, 0.7, 0.19, 0.0, 0.5, 0.2, 0.3]])
    thresholds = torch.tensor([0.5, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3, 0.3])
    named = name_labels(chances, thresholds, PARENTS)
    assert named[0].nonzero().flatten().tolist() == [0, 3]  # the likeliest genre is named though below its threshold
    assert named[1].nonzero().flatten().tolist() == [1, 2, 5, 6, 7]


def test_embeddings_count_in_the_scale_of_the_training_tracks(model: Model) -> None:
    embeds = torch.tensor([[3.0, 5.0, 1.0, 0.0, 7.0, 2.0], [3.0, 1.0, 2.0, 4.0, 8.0, 0.0]])
    model.fit_audio_scale(embeds)
    assert model.audio_projection.mean.tolist() == [3.0, 3.0, 1.5, 2.0, 7.5, 1.0]
    assert model.audio_projection.std.tolist() == [1.0, 2.0, 0.5, 2.0, 0.5, 1.0]  # the first is the same in both


@torch.no_grad()
def test_a_saved_model_scores_the_same(model: Model, inputs: dict, tmp_path: Path) -> None:
    model.fit_audio_scale(torch.randn(5, AUDIO_DIM))
    model.save_pretrained(tmp_path)
    again, found = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert type(again) is Model
    assert not any(found.values())
    assert torch.equal(again(**inputs).logits, model(**inputs).logits)
    assert torch.equal(again.parents, PARENTS)


def test_a_tuple_begins_with_the_loss(model: Model, inputs: dict, labels: torch.Tensor) -> None:
    loss, logits = model(**inputs, labels=labels, return_dict=False)
    assert loss.ndim == 0 and logits.shape == labels.shape


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


def test_an_adapter_is_trained_saved_loaded_and_merged(
    model: SubgenreForSequenceClassification, processor: SubgenreProcessor, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "base")
    model.fit_audio_scale(torch.randn(5, AUDIO_DIM, generator=torch.Generator().manual_seed(0)))
    adapted = add_lora(model, rank=2).train()
    trained = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert any("q_lin.lora_A" in name for name in trained) and any("out_lin.lora_B" in name for name in trained)
    assert not any("text_encoder" in name and "lora" not in name for name in trained)
    assert {"fusion", "text_scores", "audio_projection"} <= {part for name in trained for part in name.split(".")}
    inputs = processor(**tracks(), return_tensors="pt")
    optimizer = torch.optim.SGD(adapted.parameters(), lr=0.1)
    for _ in range(2):  # lora_A moves once lora_B has left zero
        adapted(**inputs, labels=torch.eye(4, 8)).loss.backward()
        optimizer.step()
    adapted.eval().save_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        expected = adapted(**inputs).logits
        again = PeftModel.from_pretrained(type(model).from_pretrained(tmp_path / "base"), tmp_path / "adapter").eval()
        torch.testing.assert_close(again(**inputs).logits, expected)
        torch.testing.assert_close(again.merge_and_unload()(**inputs).logits, expected)
