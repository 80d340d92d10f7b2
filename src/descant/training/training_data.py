"""What a run reads: its corpus, the features of its clips, and its rows in the order in which they come."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedModel, ProcessorMixin

from descant.data.annotations import Row
from descant.data.corpus import Corpus, SplitRows
from descant.data.extraction import keep_heard, prepare_features
from descant.data.features import FeatureStore
from descant.training.curriculum import CurriculumSampler, plan_stages, rows_per_step
from descant.training.recipe import Stage, TrainingSettings


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


@dataclass(frozen=True)
class TrainingData:
    """All that a run reads: its corpus, features, and training rows with the order in which they come."""

    corpus: Corpus
    configs: dict[str, SplitRows]
    features: FeatureStore
    rows: TokenizedRows
    curriculum: CurriculumSampler

    def fingerprint(self) -> str:
        """Number and hash of the rows to train and to validate on, with the sound of their clips."""
        kept = [(name, split, row) for name in sorted(self.configs) for split in ("train", "validation")
                for row in self.configs[name].get(split, [])]  # fmt: skip
        digest = hashlib.sha256()
        for name, split, row in kept:
            heard = self.features.sha256(row.clip_id)
            said = (name, split, row.clip_id, row.question, row.answer, row.tags, heard)
            digest.update(repr(said).encode("utf-8", "surrogatepass"))
        return f"{len(kept)} rows, hash {digest.hexdigest()[:12]}"


def prepare_data(
    corpus: Corpus, stages: Sequence[Stage], model: PreTrainedModel, processor: ProcessorMixin,
    settings: TrainingSettings,
) -> TrainingData:  # fmt: skip
    """Features of every clip, rows tokenised, stages in order."""
    with settings.main_process_first(desc="extracting features"):
        features = prepare_features(corpus, model.cached_features(processor.feature_extractor), settings.features)
    configs = keep_heard(corpus.configs, features)
    rows, indices = concatenate_configs({name: splits.get("train", []) for name, splits in configs.items()})
    tokenized = TokenizedRows(rows, processor, settings.max_answer_tokens)
    curriculum = CurriculumSampler(
        plan_stages(stages, indices, settings.num_train_epochs, settings.draws_per_epoch, [row.tags for row in rows]),
        tokenized.clip_numbers, tokenized.lengths,
        batch_size=rows_per_step(settings),
        rows_per_clip=settings.rows_per_clip, seed=settings.seed,
    )  # fmt: skip
    return TrainingData(corpus, configs, features, tokenized, curriculum)


def some_features(data: TrainingData, clips: int = 64) -> torch.Tensor:
    """Features of evenly spread training clips, (clips, bands, frames)."""
    ids = sorted({row.clip_id for row in data.rows.rows})
    chosen = ids[:: max(1, len(ids) // clips)][:clips]
    return torch.from_numpy(np.stack([data.features.read(clip_id) for clip_id in chosen]))
