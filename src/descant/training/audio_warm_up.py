"""A first lesson for the audio encoder of a new model: what the closed answers say, without the words around it."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from descant.data.annotations import Row
from descant.data.collator import FeatureReader
from descant.evaluation.exact import canonical_answer

log = logging.getLogger(__name__)

MAX_GAIN_DB = 6.0
MAX_TILT_DB = 3.0
MAX_BAND_SHIFT = 3
MASKED_BANDS = 6
MASKED_FRAMES = 30


def augment_mel(mel: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Roll in time, shift by a few bands, change level and tilt, mask one band and one stretch.

    Args:
        mel: (bands, frames) in dB.
        random: the only source of randomness.

    Masks are those of SpecAugment (Park et al. 2019, arXiv 1904.08779), filled with the clip's mean.
    """
    bands, frames = mel.shape
    mel = np.roll(mel, int(random.integers(frames)), axis=1)
    mel = _shift_bands(mel, int(random.integers(-MAX_BAND_SHIFT, MAX_BAND_SHIFT + 1)))
    tilt = random.uniform(-MAX_TILT_DB, MAX_TILT_DB) * np.linspace(-0.5, 0.5, bands, dtype=np.float32)
    mel = mel + tilt[:, None] + np.float32(random.uniform(-MAX_GAIN_DB, MAX_GAIN_DB))
    mean = mel.mean(dtype=np.float32)
    first = int(random.integers(bands - MASKED_BANDS))
    mel[first : first + int(random.integers(MASKED_BANDS + 1))] = mean
    first = int(random.integers(frames - MASKED_FRAMES))
    mel[:, first : first + int(random.integers(MASKED_FRAMES + 1))] = mean
    return mel.astype(np.float32, copy=False)


def _shift_bands(mel: np.ndarray, shift: int) -> np.ndarray:
    """Move the spectrum up by `shift` bands, repeating the edge band."""
    source = np.clip(np.arange(len(mel)) - shift, 0, len(mel) - 1)
    return mel[source]


BATCH_CLIPS = 16
UNKNOWN = -100


def warm_up_audio(
    model: PreTrainedModel, rows: Sequence[Row], features: FeatureReader, *,
    epochs: int, learning_rate: float, first_conv_lr_scale: float, seed: int,
) -> float:  # fmt: skip
    """Train the audio encoder, in place, to name each clip's answers; the loss of the last epoch in nats a clip.

    One linear head a question type reads the mean over time of `model.get_audio_features`, and is thrown away after.
    A short run from random weights learns to listen several times faster so than through the decoder alone, which has
    to learn the wording first. Rows without a question type are left out; 0.0 is returned where none has one.
    """
    clips, targets = class_targets(rows)
    if not clips:
        return 0.0
    torch.manual_seed(seed)
    heads = nn.ModuleList(nn.Linear(model.config.d_model, int(column.max()) + 1) for column in targets.T)
    optimizer = torch.optim.AdamW(
        [
            {"params": [*model.audio_encoder.conv1.parameters()], "lr": first_conv_lr_scale * learning_rate},
            {"params": [*model.audio_encoder.conv_stack.parameters(), *heads.parameters()]},
        ],
        lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.05,
    )  # fmt: skip
    steps = epochs * -(-len(clips) // BATCH_CLIPS)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    random, loss = np.random.default_rng([seed, 2]), 0.0
    for _ in tqdm(range(epochs), desc="audio warm-up", unit="epoch"):
        losses = []
        for chosen in _batches(len(clips), random):
            mels = np.stack([augment_mel(features.read(clips[index]), random) for index in chosen])
            pooled = model.get_audio_features(torch.from_numpy(mels)).mean(dim=1)  # (clips, d_model)
            losses.append(_loss(heads, pooled, targets[chosen]))
            losses[-1].backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        loss = float(torch.stack(losses).detach().mean())
    log.info("audio warm-up: %.2f nats a clip over %d question types", loss, len(heads))
    return loss


def class_targets(rows: Sequence[Row]) -> tuple[list[str], torch.Tensor]:
    """Clip ids, and the class of each clip's answer for each closed question type (clips, types); -100: not asked."""
    closed = [row for row in rows if row.question_type and not row.question_type.startswith("long")]
    clips = sorted({row.clip_id for row in closed})
    kinds = sorted({row.question_type for row in closed})
    place = {clip_id: number for number, clip_id in enumerate(clips)}
    targets = torch.full((len(clips), len(kinds)), UNKNOWN)
    for number, kind in enumerate(kinds):
        classes: dict[object, int] = {}
        for row in closed:
            if row.question_type == kind:
                answer = canonical_answer(row.answer, kind)
                targets[place[row.clip_id], number] = classes.setdefault(answer, len(classes))
    return clips, targets


def _batches(clips: int, random: np.random.Generator) -> list[np.ndarray]:
    order = random.permutation(clips)
    return [order[start : start + BATCH_CLIPS] for start in range(0, clips, BATCH_CLIPS)]


def _loss(heads: nn.ModuleList, pooled: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    losses = [
        functional.cross_entropy(head(pooled), column, ignore_index=UNKNOWN, label_smoothing=0.1)
        for head, column in zip(heads, targets.T, strict=True)
    ]
    return torch.stack(losses).sum()
