"""Two ways to bring lyrics, captions and audio together into one logit a label."""

from typing import NamedTuple

import torch
from torch import nn

from .configuration_subgenre import MODALITIES, SubgenreConfig

SUBSETS = 2 ** len(MODALITIES)  # of modalities, numbered by their places as bits: lyrics 1, captions 2, audio 4


class Fused(NamedTuple):
    """logits (batch, labels), and what training judges: words (n, batch, labels) where they are there (n, batch)."""

    logits: torch.Tensor
    words: torch.Tensor
    there: torch.Tensor


class SubgenreExpert(nn.Module):
    """What one modality says: its summary (batch, hidden) to logits (batch, labels)."""

    def __init__(self, config: SubgenreConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, summary: torch.Tensor) -> torch.Tensor:
        return self.output(self.dropout(self.norm(summary)))


class SubgenreLateFusion(nn.Module):
    """Adds up the logits of the modalities that are there, weighed: a log-linear pool (Genest and Zidek 1986).

    Training judges each modality by its own word alone, so that each is as good as a model of that modality only,
    whatever is missing later. How much a word counts depends on which others are there: `weights` (subsets,
    modalities, labels), and `shifts` (subsets, labels) are what is added. Both are fitted on validation tracks after
    training: a captioner says too true things about tracks that it was trained on itself, so training cannot tell.
    """

    def __init__(self, config: SubgenreConfig) -> None:
        super().__init__()
        self.experts = nn.ModuleList(SubgenreExpert(config) for _ in MODALITIES)
        self.weights = nn.Buffer(equal_weights(config.num_labels))
        self.shifts = nn.Buffer(torch.zeros(SUBSETS, config.num_labels))

    def forward(
        self, windows: torch.Tensor, row: torch.Tensor, kind: torch.Tensor, audio: torch.Tensor, mask: torch.Tensor
    ) -> Fused:
        """windows (windows, hidden) with the row and kind of each; audio (batch, hidden); mask (batch, 3)."""
        texts = mean_by_place(windows, 2 * row + kind, 2 * len(audio)).view(len(audio), 2, -1)
        summaries = (texts[:, 0], texts[:, 1], audio)
        words = torch.stack([expert(one) for expert, one in zip(self.experts, summaries, strict=True)], dim=1)
        subset = number_subsets(mask)
        logits = (self.weights[subset] * words).sum(dim=1) + self.shifts[subset]
        return Fused(logits, words.transpose(0, 1), mask.T)


def number_subsets(mask: torch.Tensor) -> torch.Tensor:
    """The number of the subset of modalities that is there in each track of a mask (batch, modalities)."""
    return (mask.long() << torch.arange(mask.shape[1], device=mask.device)).sum(dim=1)


def equal_weights(labels: int) -> torch.Tensor:
    """Weights (subsets, modalities, labels) of modalities that count alike, as their mean does."""
    there = (torch.arange(SUBSETS)[:, None] >> torch.arange(len(MODALITIES))) & 1  # (subsets, modalities)
    return (there / there.sum(dim=1, keepdim=True).clamp(min=1))[:, :, None].repeat(1, 1, labels)


class SubgenreCrossAttention(nn.Module):
    """Each label looks at all windows and the audio that are there, and at one learned place that says nothing."""

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
        """As `SubgenreLateFusion.forward`."""
        texts, there = to_rows(windows + self.kinds[kind], row, mask[row, kind].bool(), len(audio))
        nothing = self.nothing.expand(len(audio), 1, -1)
        heard = (audio + self.kinds[2])[:, None]
        memory = self.norm(torch.cat([nothing, heard, texts], dim=1))
        visible = torch.cat([torch.ones_like(mask[:, :1]), mask[:, 2:]], dim=1).bool()
        hidden = torch.cat([~visible, ~there], dim=1)
        queries = self.queries.expand(len(audio), -1, -1)
        found, _ = self.attention(queries, memory, memory, key_padding_mask=hidden, need_weights=False)
        logits = self.expert(queries + found)  # (batch, labels, labels): each query answers for its own label
        logits = logits.diagonal(dim1=1, dim2=2)
        return Fused(logits, logits[None], torch.ones_like(mask[:, :1]).T)


def mean_by_place(vectors: torch.Tensor, place: torch.Tensor, places: int) -> torch.Tensor:
    """The mean of the vectors (n, hidden) of each place → (places, hidden); zero where there is none."""
    sums = vectors.new_zeros(places, vectors.shape[1]).index_add(0, place, vectors)
    counts = vectors.new_zeros(places).index_add(0, place, vectors.new_ones(len(vectors)))
    return sums / counts.clamp(min=1)[:, None]


def to_rows(
    windows: torch.Tensor, row: torch.Tensor, visible: torch.Tensor, rows: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows (n, hidden) in the order of their rows → (rows, longest, hidden), and which places are visible."""
    counts = torch.bincount(row, minlength=rows)
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    longest = int(counts.max()) if rows else 0
    filled = windows.new_zeros(rows, longest, windows.shape[1])
    there = torch.zeros(rows, longest, dtype=torch.bool, device=row.device)
    return filled.index_put((row, place), windows), there.index_put((row, place), visible)
