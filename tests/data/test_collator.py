"""The batch that models take: each clip once, padding masked, labels shifted."""

import numpy as np
import torch

from descant.data.collator import AudioTextCollator


class Store:
    """Features that name their clip: the store itself is another module's."""

    def read(self, clip_id: str, out: np.ndarray | None = None) -> np.ndarray:
        return np.full((4, 6), float(clip_id), dtype=np.float32)


def item(clip_id: str, prompt: list[int] | None, labels: list[int], epoch: int | None = None, row: int = 0) -> dict:
    prompt_ids = None if prompt is None else np.array(prompt)
    return {
        "row_index": row,
        "clip_id": clip_id,
        "prompt_ids": prompt_ids,
        "label_ids": np.array(labels),
        "epoch": epoch,
    }


def make_collator(**kwargs) -> AudioTextCollator:
    return AudioTextCollator(Store(), pad_token_id=1, decoder_start_token_id=2, **kwargs)


def test_a_clip_stands_in_the_batch_once():
    batch = make_collator()([item("7", [0, 9, 2], [0, 5, 2]), item("8", [0, 2], [0, 2]), item("7", [0, 2], [0, 2])])
    assert batch["input_features"].shape == (2, 4, 6)
    assert batch["clip_index"].tolist() == [0, 1, 0]
    assert batch["input_features"][:, 0, 0].tolist() == [7.0, 8.0]


def test_labels_are_padded_with_ignored_positions_and_shifted_for_the_decoder():
    batch = make_collator()([item("7", [0, 2], [0, 5, 6, 2]), item("7", [0, 2], [0, 2])])
    assert batch["labels"].tolist() == [[0, 5, 6, 2], [0, 2, -100, -100]]
    assert batch["decoder_input_ids"].tolist() == [[2, 0, 5, 6], [2, 0, 2, 1]]


def test_prompts_are_masked_by_their_lengths_and_absent_for_captions():
    batch = make_collator()([item("7", [0, 9, 2], [0, 2]), item("8", None, [0, 2])])
    assert batch["prompt_attention_mask"].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert "prompt_input_ids" not in make_collator()([item("7", None, [0, 2])])


def test_augmentation_depends_on_clip_and_epoch_alone():
    def noisy(mel: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return mel + random.standard_normal(mel.shape).astype(np.float32)

    collator = make_collator(augment=noisy)
    features = [collator([item(clip, None, [0], epoch)])["input_features"] for clip, epoch in (("7", 1), ("7", 2))]
    torch.rand(3)  # the global generator has no say
    assert torch.equal(collator([item("7", None, [0], 1)])["input_features"], features[0])
    assert not torch.equal(features[0], features[1])
    assert collator([item("7", None, [0], None)])["input_features"].eq(7).all()
