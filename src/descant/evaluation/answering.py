"""Answers of a model to dataset rows, each hearing its own clip or one that a control assigns."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, ProcessorMixin

from descant.data.annotations import Row
from descant.data.collator import FeatureReader


def answer_rows(
    model: PreTrainedModel, processor: ProcessorMixin, rows: Sequence[Row], features: FeatureReader, *,
    heard: Mapping[str, str] | None = None, batch_size: int = 32, progress: str | None = None, **generation: Any,
) -> list[str]:  # fmt: skip
    """Answers in the order of `rows`.

    Args:
        model: any model with `answer_many`.
        features: gives (bands, frames) for a clip id.
        heard: clip id → the clip that is heard in its place (the shuffled-audio control).
        progress: title of a progress bar on stderr.
        generation: settings of `generate`.
    """
    prompts = {question: processor.prompt_ids(question) for question in {row.question for row in rows}}

    def pairs() -> Iterator[tuple[str, torch.Tensor, list[int] | None]]:
        for row in rows:
            clip_id = heard[row.clip_id] if heard else row.clip_id
            yield clip_id, torch.from_numpy(features.read(clip_id)), prompts[row.question]

    token_ids: list[list[int]] = [[]] * len(rows)
    stream = model.answer_many(pairs(), batch_size=batch_size, **generation)
    for index, tokens, _ in tqdm(stream, total=len(rows), desc=progress, disable=progress is None):
        token_ids[index] = tokens
    return [text.strip() for text in processor.batch_decode(token_ids, skip_special_tokens=True)]
