"""Rows and cached features to a training batch, each clip's log-mel in it once."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

IGNORED = -100


class FeatureReader(Protocol):
    """A feature store, as far as the collator reads it."""

    def read(self, clip_id: str, out: np.ndarray | None = None) -> np.ndarray:
        """Return a clip's feature (bands, frames) as float32, in `out` where it is given."""


class AudioTextCollator:
    """Join rows with their clips' features: the batch that every question-answering model takes.

    A batch holds `input_features` (unique clips, bands, frames), `clip_index` (batch,), `prompt_input_ids` and
    `prompt_attention_mask` (batch, prompt) where any row has a question, `labels` and `decoder_input_ids`
    (batch, answer), and `row_index` (batch,), which names the rows when something goes wrong.
    """

    def __init__(
        self, features: FeatureReader, *, pad_token_id: int, decoder_start_token_id: int,
        augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None, seed: int = 42,
    ) -> None:  # fmt: skip
        """Take features, special tokens and, for training, what augments a feature (bands, frames)."""
        self.features, self.augment, self.seed = features, augment, seed
        self.pad_token_id, self.decoder_start_token_id = pad_token_id, decoder_start_token_id

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch of rows, each with `clip_id`, `prompt_ids`, `label_ids`, `epoch` and `row_index`."""
        clips = list(dict.fromkeys(item["clip_id"] for item in items))
        indices = {clip_id: index for index, clip_id in enumerate(clips)}
        epochs = {item["clip_id"]: item["epoch"] for item in items}
        labels = _pad([item["label_ids"] for item in items], IGNORED)
        batch = {
            "input_features": torch.from_numpy(np.stack([self._features(clip, epochs[clip]) for clip in clips])),
            "clip_index": torch.tensor([indices[item["clip_id"]] for item in items]),
            "labels": labels,
            "decoder_input_ids": self._shift_right(labels),
            "row_index": torch.tensor([item["row_index"] for item in items]),
        }
        return batch | self._prompts([item["prompt_ids"] for item in items])

    def _features(self, clip_id: str, epoch: int | None) -> np.ndarray:
        features = self.features.read(clip_id)
        if self.augment is None or epoch is None:
            return features
        # Seeded by clip and epoch, so that a resumed run takes exactly what an uninterrupted one takes.
        clip_seed = int.from_bytes(clip_id.encode("utf-8", "surrogateescape")[:32], "little")
        return self.augment(features, np.random.default_rng([self.seed, epoch, clip_seed]))

    def _shift_right(self, labels: torch.Tensor) -> torch.Tensor:
        shifted = labels.new_full(labels.shape, self.decoder_start_token_id)
        shifted[:, 1:] = labels[:, :-1]
        return shifted.masked_fill(shifted == IGNORED, self.pad_token_id)

    def _prompts(self, prompts: Sequence[np.ndarray | None]) -> dict[str, torch.Tensor]:
        if all(prompt is None for prompt in prompts):
            return {}
        filled = [np.empty(0, dtype=np.int64) if prompt is None else prompt for prompt in prompts]
        ids = _pad(filled, self.pad_token_id)
        lengths = torch.tensor([len(prompt) for prompt in filled])
        mask = torch.arange(ids.shape[1])[None, :] < lengths[:, None]
        return {"prompt_input_ids": ids, "prompt_attention_mask": mask.long()}


def _pad(rows: Sequence[np.ndarray], value: int) -> torch.Tensor:
    padded = np.full((len(rows), max(len(row) for row in rows)), value, dtype=np.int64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return torch.from_numpy(padded)
