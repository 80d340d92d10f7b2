"""Tokenised training rows: what the data loader indexes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from descant.data.annotations import Row


class TokenizedRows(Dataset):
    """Rows tokenised once, ahead of the training step.

    An item is asked for as `row` (validation) or `(row, epoch)` (training: the epoch seeds the augmentation) and holds
    `row_index, clip_id, prompt_ids (None for captions), label_ids, epoch`. Labels are `<s> answer </s>`, cut at
    `max_answer_tokens` without losing the end token.
    """

    def __init__(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_answer_tokens: int = 128) -> None:
        self.rows = list(rows)
        self.labels = _token_arrays(tokenizer, [row.answer for row in self.rows], max_answer_tokens)
        questions = sorted({row.question for row in self.rows if row.question is not None})
        self.prompts = dict(zip(questions, _token_arrays(tokenizer, questions, None), strict=True))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        row_index, epoch = index if isinstance(index, tuple) else (index, None)
        row = self.rows[row_index]
        return {
            "row_index": row_index,
            "clip_id": row.clip_id,
            "prompt_ids": None if row.question is None else self.prompts[row.question],
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


def _token_arrays(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], limit: int | None) -> list[np.ndarray]:
    if not texts:
        return []
    encoded = tokenizer(list(texts), truncation=limit is not None, max_length=limit)["input_ids"]
    return [np.array(ids, dtype=np.int64) for ids in encoded]
