"""Two ways to fuse lyrics, captions and audio into one logit a label: late fusion, and cross attention."""

from typing import NamedTuple

import torch
from torch import nn

from .configuration_subgenre import MODALITIES, SubgenreConfig

SUBSETS = 2 ** len(MODALITIES)  # of modalities, numbered by bits: lyrics 1, captions 2, audio 4


class Fused(NamedTuple):
    """`logits` (batch, labels), and what the loss is of: `parts` (n, batch, labels) where `given` (n, batch)."""

    logits: torch.Tensor
    parts: torch.Tensor
    given: torch.Tensor


class SubgenreExpert(nn.Module):
    """Predicts from one modality alone: its summary (batch, hidden) to logits (batch, labels)."""

    def __init__(self, config: SubgenreConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, summary: torch.Tensor) -> torch.Tensor:
        """Map a summary (batch, hidden) to logits (batch, labels)."""
        return self.output(self.dropout(self.norm(summary)))


class SubgenreLateFusion(nn.Module):
    """Adds up the logits of the given modalities, weighted: a log-linear pool (Genest and Zidek 1986).

    The loss is that of each modality alone, so that each is as good as a model of that modality only, whatever is
    missing later. The weight of a modality depends on which others are given: `weights` (subsets, modalities, labels),
    with `shifts` (subsets, labels) added. Both are fitted on validation tracks after training: the captioner is
    over-accurate on its own training tracks, so weights fitted there would trust captions too much.
    """

    def __init__(self, config: SubgenreConfig) -> None:
        super().__init__()
        self.experts = nn.ModuleList(SubgenreExpert(config) for _ in MODALITIES)
        self.weights = nn.Buffer(equal_weights(config.num_labels))
        self.shifts = nn.Buffer(torch.zeros(SUBSETS, config.num_labels))

    def forward(
        self, windows: torch.Tensor, row: torch.Tensor, kind: torch.Tensor, audio: torch.Tensor, mask: torch.Tensor
    ) -> Fused:
        """Fuse windows (windows, hidden), each with its row and kind, with audio (batch, hidden); mask: (batch, 3)."""
        texts = mean_by_group(windows, 2 * row + kind, 2 * len(audio)).view(len(audio), 2, -1)
        summaries = (texts[:, 0], texts[:, 1], audio)
        parts = torch.stack([expert(part) for expert, part in zip(self.experts, summaries, strict=True)], dim=1)
        subset = number_subsets(mask)
        logits = (self.weights[subset] * parts).sum(dim=1) + self.shifts[subset]
        return Fused(logits, parts.transpose(0, 1), mask.T)


def number_subsets(mask: torch.Tensor) -> torch.Tensor:
    """Return the number of the subset of modalities that each track of a mask (batch, modalities) has."""
    return (mask.long() << torch.arange(mask.shape[1], device=mask.device)).sum(dim=1)


def equal_weights(labels: int) -> torch.Tensor:
    """Build weights (subsets, modalities, labels) by which the given modalities are averaged."""
    given = (torch.arange(SUBSETS)[:, None] >> torch.arange(len(MODALITIES))) & 1  # (subsets, modalities)
    return (given / given.sum(dim=1, keepdim=True).clamp(min=1))[:, :, None].repeat(1, 1, labels)


class SubgenreCrossAttention(nn.Module):
    """Lets each label attend to all given windows and audio, and to one learned vector that means nothing."""

    def __init__(self, config: SubgenreConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.queries = nn.Parameter(torch.empty(config.num_labels, width))
        self.nothing = nn.Parameter(torch.zeros(width))
        self.kinds = nn.Parameter(torch.zeros(len(MODALITIES), width))
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, config.num_attention_heads, config.dropout, batch_first=True)
        self.expert = SubgenreExpert(config)

    def forward(
        self, windows: torch.Tensor, row: torch.Tensor, kind: torch.Tensor, audio: torch.Tensor, mask: torch.Tensor
    ) -> Fused:
        """Fuse as `SubgenreLateFusion.forward` does."""
        texts, given = to_rows(windows + self.kinds[kind], row, mask[row, kind].bool(), len(audio))
        nothing = self.nothing.expand(len(audio), 1, -1)
        sound = (audio + self.kinds[2])[:, None]
        memory = self.norm(torch.cat([nothing, sound, texts], dim=1))
        visible = torch.cat([torch.ones_like(mask[:, :1]), mask[:, 2:]], dim=1).bool()
        hidden = torch.cat([~visible, ~given], dim=1)
        queries = self.queries.expand(len(audio), -1, -1)
        attended, _ = self.attention(queries, memory, memory, key_padding_mask=hidden, need_weights=False)
        logits = self.expert(queries + attended)  # (batch, labels, labels): each query answers for its own label
        logits = logits.diagonal(dim1=1, dim2=2)
        return Fused(logits, logits[None], torch.ones_like(mask[:, :1]).T)


def mean_by_group(vectors: torch.Tensor, group: torch.Tensor, groups: int) -> torch.Tensor:
    """Average the vectors (n, hidden) of each group (n,) → (groups, hidden); zero for an empty group."""
    sums = vectors.new_zeros(groups, vectors.shape[1]).index_add(0, group, vectors)
    counts = vectors.new_zeros(groups).index_add(0, group, vectors.new_ones(len(vectors)))
    return sums / counts.clamp(min=1)[:, None]


def to_rows(
    windows: torch.Tensor, row: torch.Tensor, visible: torch.Tensor, rows: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad windows (n, hidden) in the order of their rows → (rows, longest, hidden), and which are visible."""
    counts = torch.bincount(row, minlength=rows)
    column = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    longest = int(counts.max()) if rows else 0
    filled = windows.new_zeros(rows, longest, windows.shape[1])
    given = torch.zeros(rows, longest, dtype=torch.bool, device=row.device)
    return filled.index_put((row, column), windows), given.index_put((row, column), visible)
