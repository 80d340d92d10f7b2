"""The plainest reader of lyrics: words and pairs of words, weighed by TF-IDF, in a logistic regression."""

import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


class TfidfProbe:
    """Learns genres (one of many) and subgenres (each by itself) from texts; the same texts give the same weights.

    A text without known words, such as an empty one, gets the shares of the training tracks.
    """

    def __init__(
        self, texts: Sequence[str], genre: np.ndarray, subgenres: np.ndarray, genres: int,
        inverse_penalty: float = 10.0,
    ) -> None:  # fmt: skip
        """
        genre: (texts,), the place of each text's genre. subgenres: (texts, subgenres), true or false.
        genres: how many there are. inverse_penalty: weight of the loss against that of half the squared weights.
        """
        counts = Counter(term for text in texts for term in set(split_terms(text)))
        known = sorted(term for term, count in counts.items() if count > 1)
        self.places = {term: place for place, term in enumerate(known)}
        # Smoothed inverse document frequencies (Manning et al., Introduction to Information Retrieval, 6.2).
        self.idf = np.array([np.log((1 + len(texts)) / (1 + counts[term])) + 1 for term in known])
        vectors = self.vectors(texts)
        self.genre_weights = fit_softmax(vectors, torch.from_numpy(genre), genres, inverse_penalty)
        self.subgenre_weights = fit_binary(vectors, torch.from_numpy(subgenres).double(), inverse_penalty)

    def vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts as rows of length 1 (0 where no word is known), (texts, terms + 1); the last column is 1."""
        rows = np.zeros((len(texts), len(self.idf)))
        for row, text in enumerate(texts):
            for term, count in Counter(split_terms(text)).items():
                if term in self.places:
                    rows[row, self.places[term]] = 1 + np.log(count)
        rows *= self.idf
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return torch.from_numpy(np.concatenate([rows, np.ones((len(texts), 1))], axis=1))

    def probabilities(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Genres (texts, genres), and subgenres (texts, subgenres)."""
        vectors = self.vectors(texts)
        genres = (vectors @ self.genre_weights).softmax(dim=1)
        return genres.numpy(), (vectors @ self.subgenre_weights).sigmoid().numpy()


def split_terms(text: str) -> list[str]:
    """Words in lower case, and pairs of neighbouring ones."""
    words = WORD.findall(text.lower())
    return words + [f"{first} {second}" for first, second in zip(words, words[1:], strict=False)]


def fit_softmax(vectors: torch.Tensor, classes: torch.Tensor, count: int, inverse_penalty: float) -> torch.Tensor:
    """Weights (terms + 1, classes) of a multinomial logistic regression."""

    def loss_of(logits: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits, classes, reduction="sum")

    return _fit(vectors, count, inverse_penalty, loss_of)


def fit_binary(vectors: torch.Tensor, labels: torch.Tensor, inverse_penalty: float) -> torch.Tensor:
    """Weights (terms + 1, labels) of one logistic regression for each label."""

    def loss_of(logits: torch.Tensor) -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")

    return _fit(vectors, labels.shape[1], inverse_penalty, loss_of)


def _fit(
    vectors: torch.Tensor, columns: int, inverse_penalty: float, loss_of: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    terms, ones = vectors[:, :-1], vectors[:, -1:]
    # Weights outside of what the texts span cost and change nothing: the best ones have none.
    basis = torch.linalg.qr(terms.T).Q  # (terms, texts), or (terms, terms) where texts are many
    spanned = torch.cat([terms @ basis, ones], dim=1)
    weights = torch.zeros(spanned.shape[1], columns, dtype=vectors.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = inverse_penalty * loss_of(spanned @ weights) + weights[:-1].square().sum() / 2
        loss.backward()
        return loss

    optimizer.step(step)
    found = weights.detach()
    return torch.cat([basis @ found[:-1], found[-1:]])
