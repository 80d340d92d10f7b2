"""What a run reads: its corpus, the features of its clips, and its rows in the order in which they come."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, ProcessorMixin

from descant.data.feature_store import FeatureStore
from descant.data.sources import Corpus, SplitRows
from descant.training.arguments import TrainingSettings
from descant.training.curriculum import CurriculumSampler, plan_stages
from descant.training.features import keep_heard, prepare_features
from descant.training.recipe import Stage
from descant.training.rows import TokenizedRows, concatenate_configs
from descant.training.steps import rows_per_step


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
