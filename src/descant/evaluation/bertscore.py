"""BERTScore with any encoder of transformers: greedy matching of contextual token embeddings.

Zhang et al. 2020 (arXiv 1904.09675), as the `bert_score` package 0.3.13 computes it, without rescaling: every token of
a text is matched to the most similar token of the other one (the special tokens may be matched, but weigh nothing).
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from descant.hub_client import load_patiently

# bert_score's choice for encoders that papers use; the last layer for any other.
PUBLISHED_LAYERS = {
    "roberta-large": 17, "roberta-base": 10, "bert-base-uncased": 9, "bert-large-uncased": 18,
    "distilbert-base-uncased": 5, "deberta-xlarge-mnli": 40,
}  # fmt: skip
BYTE_LEVEL = {"roberta", "gpt2"}  # bert_score puts a space before the first word for these
LONGEST = 512


class Similarity(NamedTuple):
    """BERTScore of every prediction → (items,) each."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


class BertScorer:
    """Compares texts with one layer of an encoder (a folder or a Hub id).

    `idf` weighs a token by how few references hold it. `name` tells encoder, layer and weighting: scores with
    different names do not compare.
    """

    def __init__(self, encoder: str | Path, layer: int | None = None, idf: bool = False, batch_size: int = 64) -> None:
        """Load the encoder; raise ValueError for a layer that it does not have."""
        config = load_patiently(partial(AutoConfig.from_pretrained, encoder), encoder)
        name = encoder_name(encoder)
        self.layer = PUBLISHED_LAYERS.get(name.split("/")[-1], config.num_hidden_layers) if layer is None else layer
        if not 0 <= self.layer <= config.num_hidden_layers:
            raise ValueError(f"layer {self.layer} of {encoder}: choose one from 0 to {config.num_hidden_layers}")
        self.name = f"{name}_L{self.layer}_{'idf' if idf else 'no-idf'}"
        self.idf, self.batch_size, self.prefix = idf, batch_size, " " if config.model_type in BYTE_LEVEL else ""
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = AutoTokenizer.from_pretrained(encoder)
        self.model = AutoModel.from_pretrained(encoder, dtype=torch.float32).to(self.device).eval()

    def score(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Similarity:
        """Return precision, recall and F1 of every prediction, each the best over its references."""
        owner = [index for index, texts in enumerate(references) for _ in texts]
        hypotheses = self.encode([predictions[index] for index in owner])
        targets = self.encode([text for texts in references for text in texts])
        weights = self.weigh(targets)
        best = np.full((len(predictions), 3), -1.0)
        for batch in self.batches(hypotheses, targets):
            sides = [self.embed([texts[i] for i in batch], weights) for texts in (hypotheses, targets)]
            np.maximum.at(best, [owner[i] for i in batch], match_tokens(*sides[0], *sides[1]).cpu().numpy())
        return Similarity(*best.T)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return token ids with the special tokens."""
        longest = min(self.tokenizer.model_max_length, LONGEST)
        stripped = [self.prefix + text.strip() for text in texts]
        return self.tokenizer(stripped, truncation=True, max_length=longest)["input_ids"]

    def weigh(self, references: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the weight of each token id (vocabulary,): 1 but for special tokens, or log((N + 1) / (df + 1))."""
        size = len(self.tokenizer)
        if not self.idf:
            weights = torch.ones(size)
            weights[[self.tokenizer.cls_token_id, self.tokenizer.sep_token_id]] = 0
            return weights
        holders = Counter(token for ids in references for token in set(ids))
        return torch.tensor([math.log((len(references) + 1) / (holders[token] + 1)) for token in range(size)])

    def batches(self, hypotheses: list[list[int]], references: list[list[int]]) -> Iterator[list[int]]:
        """Give the indices of pairs by batches, those of like length together."""
        order = sorted(range(len(hypotheses)), key=lambda i: len(hypotheses[i]) + len(references[i]))
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]

    @torch.inference_mode()
    def embed(self, texts: list[list[int]], weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return unit embeddings (batch, tokens, hidden), mask and weights (batch, tokens)."""
        padded = self.tokenizer.pad({"input_ids": texts}, return_tensors="pt").to(self.device)
        ids, mask = padded["input_ids"], padded["attention_mask"]
        hidden = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[self.layer]
        return torch.nn.functional.normalize(hidden, dim=-1), mask.bool(), weights.to(ids.device)[ids] * mask


def encoder_name(encoder: str | Path) -> str:
    """Return the Hub id, or a folder's own name: scores are published, the folders around it are not."""
    return Path(encoder).resolve().name if Path(encoder).is_dir() else str(encoder)


def match_tokens(
    hypotheses: torch.Tensor, hypothesis_mask: torch.Tensor, hypothesis_weights: torch.Tensor,
    references: torch.Tensor, reference_mask: torch.Tensor, reference_weights: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """Return precision, recall and F1 of a batch of pairs (batch, 3).

    The embeddings (batch, tokens, hidden) are unit vectors. A text without words scores 0.
    """
    similarity = hypotheses @ references.transpose(1, 2)  # (batch, hypothesis tokens, reference tokens)
    both = hypothesis_mask[:, :, None] & reference_mask[:, None, :]
    similarity = similarity.masked_fill(~both, -1)
    precision = weighted_mean(similarity.amax(2), hypothesis_weights)
    recall = weighted_mean(similarity.amax(1), reference_weights)
    has_words = (hypothesis_mask.sum(1) > 2) & (reference_mask.sum(1) > 2)  # more than the two special tokens
    f1 = 2 * precision * recall / (precision + recall)
    return torch.stack([precision, recall, f1], dim=1).nan_to_num(0) * has_words[:, None]


def weighted_mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the weighted means (batch,) of values (batch, tokens)."""
    return (values * weights).sum(1) / weights.sum(1)
