"""Tokenised training rows: what the data loader indexes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset
from transformers import ProcessorMixin

from descant.data.annotations import Row


class TokenizedRows(Dataset):
    """Rows tokenised once, ahead of the training step.

    An item is asked for as `row` (validation) or `(row, epoch)` (training: the epoch seeds the augmentation) and holds
    `row_index, clip_id, prompt_ids (None where the model has no prompt), label_ids, epoch`. What prompt and labels are
    is the processor's to say; labels are cut at `max_answer_tokens` without losing the end token.
    """

    def __init__(self, rows: Sequence[Row], processor: ProcessorMixin, max_answer_tokens: int = 128) -> None:
        self.rows = list(rows)
        answers = processor.answer_ids([row.answer for row in self.rows], max_answer_tokens)
        self.labels = [np.array(ids, dtype=np.int64) for ids in answers]
        self.prompts = {question: _prompt(processor, question) for question in {row.question for row in self.rows}}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        row_index, epoch = index if isinstance(index, tuple) else (index, None)
        row = self.rows[row_index]
        return {
            "row_index": row_index,
            "clip_id": row.clip_id,
            "prompt_ids": self.prompts[row.question],
            "label_ids": self.labels[row_index],
            "epoch": epoch,
        }

    @property
    def lengths(self) -> np.ndarray:
        """Label tokens of each row: what the cost of a training step grows with."""
        return np.array([len(ids) for ids in self.labels])

    @property
    def clip_numbers(self) -> np.ndarray:
        """An integer for each row, equal for rows of one clip."""
        return np.unique([row.clip_id for row in self.rows], return_inverse=True)[1]


def concatenate_configs(configs: Mapping[str, Sequence[Row]]) -> tuple[list[Row], dict[str, np.ndarray]]:
    """All rows in one list, and for each configuration the indices of its rows."""
    rows: list[Row] = []
    indices = {}
    for name, part in configs.items():
        indices[name] = np.arange(len(rows), len(rows) + len(part))
        rows.extend(part)
    return rows, indices


def _prompt(processor: ProcessorMixin, question: str | None) -> np.ndarray | None:
    ids = processor.prompt_ids(question)
    return None if ids is None else np.array(ids, dtype=np.int64)
