"""Plain systems to compare with: TF-IDF with logistic regression, asking for the genre, the commonest labels."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional

from descant.data.terms import PAUSE, denies, normalise, surface_forms
from descant.subgenre.examples import Example, SubgenreData, decide_with
from descant.subgenre.label_scores import LabelPredictions, gather_gold, one_hot_predictions
from descant.subgenre.labels import LabelTree, ask_for_genre, split_label
from descant.subgenre.tuning import tune_thresholds

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


class TfidfProbe:
    """Logistic regressions of genres (one of many) and subgenres (each by itself) on TF-IDF of words and word pairs.

    The same texts give the same weights. A text without known words, such as an empty one, gets the shares of the
    training tracks.
    """

    def __init__(
        self, texts: Sequence[str], genre: np.ndarray, subgenres: np.ndarray, genres: int,
        inverse_penalty: float = 10.0,
    ) -> None:  # fmt: skip
        """Fit the regressions.

        genre: (texts,), the index of each text's genre. subgenres: (texts, subgenres), true or false.
        genres: how many there are. inverse_penalty: weight of the loss against that of half the squared weights.
        """
        counts = Counter(term for text in texts for term in set(split_terms(text)))
        known = sorted(term for term, count in counts.items() if count > 1)
        self.columns = {term: column for column, term in enumerate(known)}
        # Smoothed inverse document frequencies (Manning et al., Introduction to Information Retrieval, 6.2).
        self.idf = np.array([np.log((1 + len(texts)) / (1 + counts[term])) + 1 for term in known])
        vectors = self.vectors(texts)
        self.genre_weights = fit_softmax(vectors, torch.from_numpy(genre), genres, inverse_penalty)
        self.subgenre_weights = fit_binary(vectors, torch.from_numpy(subgenres).double(), inverse_penalty)

    def vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """Weigh texts as rows of length 1 (0 where no word is known), (texts, terms + 1); the last column is 1."""
        rows = np.zeros((len(texts), len(self.idf)))
        for row, text in enumerate(texts):
            for term, count in Counter(split_terms(text)).items():
                if term in self.columns:
                    rows[row, self.columns[term]] = 1 + np.log(count)
        rows *= self.idf
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return torch.from_numpy(np.concatenate([rows, np.ones((len(texts), 1))], axis=1))

    def probabilities(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Predict probabilities of genres (texts, genres) and subgenres (texts, subgenres)."""
        vectors = self.vectors(texts)
        genres = (vectors @ self.genre_weights).softmax(dim=1)
        return genres.numpy(), (vectors @ self.subgenre_weights).sigmoid().numpy()


def split_terms(text: str) -> list[str]:
    """Split a text into words in lower case, and pairs of neighbouring ones."""
    words = WORD.findall(text.lower())
    return words + [f"{first} {second}" for first, second in zip(words, words[1:], strict=False)]


def fit_softmax(vectors: torch.Tensor, classes: torch.Tensor, count: int, inverse_penalty: float) -> torch.Tensor:
    """Fit weights (terms + 1, classes) of a multinomial logistic regression."""

    def loss_of(logits: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits, classes, reduction="sum")

    return _fit(vectors, count, inverse_penalty, loss_of)


def fit_binary(vectors: torch.Tensor, labels: torch.Tensor, inverse_penalty: float) -> torch.Tensor:
    """Fit weights (terms + 1, labels) of one logistic regression for each label."""

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
    fitted = weights.detach()
    return torch.cat([basis @ fitted[:-1], fitted[-1:]])


def match_labels(answer: str, tree: LabelTree) -> tuple[str | None, tuple[str, ...]]:
    """Find the genre and the subgenres (full names) that an answer names, also by a synonym.

    Of several genres the one named first counts. Where only subgenres are named, the first one's genre does. A name
    that stands under several genres means the one under the answer's genre. What the answer denies is left out.
    """
    named = list(dict.fromkeys(_labels_in_order(answer, tree)))
    genres = [label for kind, label in named if kind == "genre"]
    subgenres = [label for kind, label in named if kind == "subgenre"]
    genre = genres[0] if genres else split_label(subgenres[0])[0] if subgenres else None
    kept = []
    for label in subgenres:
        twins = [other for other in subgenres if split_label(other)[1] == split_label(label)[1]]
        if len(twins) == 1 or split_label(label)[0] == genre:
            kept.append(label)
    return genre, tuple(kept)


def _labels_in_order(answer: str, tree: LabelTree) -> Iterator[tuple[str, str]]:
    pattern, meanings = _wordings(tuple(tree.genres), tuple(tree.subgenres))
    text = " | ".join(map(normalise, PAUSE.split(answer)))
    end, denied = 0, False
    for match in pattern.finditer(text):
        denied, end = denies(text[end : match.start()], denied), match.end()
        if not denied:
            yield from meanings[match[1]]


@lru_cache(maxsize=4)
def _wordings(
    genres: tuple[str, ...], subgenres: tuple[str, ...]
) -> tuple[re.Pattern[str], dict[str, list[tuple[str, str]]]]:
    """Build a pattern of all wordings of a tree's labels, the longest first, and the labels that each one means."""
    own: dict[str, list[tuple[str, str]]] = {}
    for kind, labels in (("genre", genres), ("subgenre", subgenres)):
        for label in labels:
            own.setdefault(normalise(label if kind == "genre" else split_label(label)[1]), []).append((kind, label))
    meanings = dict(own)
    for kind in ("genre", "subgenre"):
        for wording, canonical in surface_forms(kind).items():
            for name in (wording, normalise(canonical)):
                if name in own:  # a label's own name means that label; its synonyms, where no label is called so, too
                    for synonym in (wording, normalise(canonical)):
                        meanings.setdefault(synonym, own[name])
    listed = "|".join(re.escape(wording) for wording in sorted(meanings, key=len, reverse=True))
    return re.compile(rf"(?<![\w/])({listed})(?:e?s)?(?![\w/])"), meanings


def predict_commonest(data: SubgenreData, split: str) -> LabelPredictions:
    """Predict for every track the commonest genre of the training tracks, and its commonest set of subgenres."""
    genre = Counter(track.genre for track in data.tracks["train"]).most_common(1)[0][0]
    sets = Counter(track.subgenres for track in data.tracks["train"] if track.genre == genre)
    tracks = len(data.tracks[split])
    return one_hot_predictions([genre] * tracks, [sets.most_common(1)[0][0]] * tracks, data.tree)


def predict_by_asking(data: SubgenreData, split: str) -> LabelPredictions:
    """Predict as the reference does: ask for the main genre, and match labels and synonyms in the answers."""
    question = ask_for_genre(data.tree)
    matches = [_match(data.hearings[one.track_id].sentences([question]), data.tree) if one.track_id in data.hearings
               else (None, ()) for one in data.tracks[split]]  # fmt: skip
    return one_hot_predictions([genre for genre, _ in matches], [names for _, names in matches], data.tree)


def _match(answers: Sequence[str], tree: LabelTree) -> tuple[str | None, tuple[str, ...]]:
    """Return the match that most windows' answers have."""
    matches = Counter(match_labels(answer, tree) for answer in answers)
    return matches.most_common(1)[0][0] if matches else (None, ())


def predict_by_tfidf(data: SubgenreData, split: str, captions: bool) -> LabelPredictions:
    """Predict by a linear probe on the words of lyrics, and of captions too; thresholds from validation."""
    learnt = {example.track_id: example for example in data.examples["train"]}
    tracks = [track for track in data.tracks["train"] if track.track_id in learnt]
    train = gather_gold(tracks, data.tree)
    texts = [_text(learnt[track.track_id], captions) for track in tracks]
    probe = TfidfProbe(texts, train.genre, train.subgenres, len(data.tree.genres))
    parents = [data.tree.genres.index(data.tree.parent(label)) for label in data.tree.subgenres]

    def probabilities(of_split: str) -> np.ndarray:
        return np.concatenate(probe.probabilities([_text(one, captions) for one in data.examples[of_split]]), axis=1)

    gold, predicted = data.gold("validation"), probabilities(split)
    tuned = {} if gold is None else tune_thresholds(probabilities("validation"), gold)
    labels = [*data.tree.genres, *data.tree.subgenres]
    return decide_with(predicted, torch.tensor([tuned.get(label, 0.5) for label in labels]), parents)


def _text(example: Example, captions: bool) -> str:
    return " ".join([example.lyrics or "", *((example.captions or ()) if captions else ())])
