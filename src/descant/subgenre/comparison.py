"""The classifier beside single modalities and plain systems on held-out tracks: table, modality grid, calibration.

The plain systems are TF-IDF with logistic regression, asking for the genre, and the commonest labels.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
import torch
from torch.nn import functional

from descant.data.terms import PAUSE, denies, normalise, surface_forms
from descant.evaluation.calibration import expected_calibration_error
from descant.evaluation.measures import Difference, Interval, table_lines
from descant.models.subgenre.configuration_subgenre import MODALITIES
from descant.subgenre.examples import Example, SubgenreData, decide_with
from descant.subgenre.label_scores import (
    GoldLabels,
    LabelPredictions,
    gather_gold,
    one_hot_predictions,
    paired_difference,
    reliability_table,
    render_differences,
    render_measured,
    score_intervals,
    score_labels,
)
from descant.subgenre.labels import LabelTree, ask_for_genre, split_label
from descant.subgenre.training import Classifier
from descant.subgenre.tuning import tune_thresholds

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
FUSION = "fusion"
MACRO_F1 = ("genre_macro_f1", "subgenre_macro_f1")

Runs = list[LabelPredictions]

# Plain systems


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


# The comparison


@dataclass(frozen=True)
class Comparison:
    """The predictions of all systems for the tracks of one split.

    systems: name → one run a seed; `fusion` and `lyrics`, `captions`, `audio` alone are classifiers. measured: their
    scores and intervals. visible: fusion's predictions from some modalities only, by their names.
    """

    split: str
    gold: GoldLabels
    systems: dict[str, Runs]
    measured: dict[str, dict[str, tuple[float, Interval]]]
    visible: dict[tuple[str, ...], Runs]


def compare_systems(data: SubgenreData, classifiers: Mapping[str, Sequence[Classifier]], split: str) -> Comparison:
    """Predict a split, which must have tracks, with all systems.

    classifiers: one a seed of `fusion` and of each single modality.
    """
    examples = data.examples[split]
    read = {name: [one.read(examples) for one in runs] for name, runs in classifiers.items()}

    def predict(name: str, modalities: Collection[str] = MODALITIES) -> Runs:
        return [one.predict(inputs, modalities) for one, inputs in zip(classifiers[name], read[name], strict=True)]

    systems = {name: predict(name) for name in classifiers}
    plain: dict[str, Callable[[], LabelPredictions]] = {
        "TF-IDF of lyrics": lambda: predict_by_tfidf(data, split, captions=False),
        "TF-IDF of lyrics and captions": lambda: predict_by_tfidf(data, split, captions=True),
        "asking for the genre": lambda: predict_by_asking(data, split),
        "commonest labels": lambda: predict_commonest(data, split),
    }
    systems |= {name: [system()] for name, system in plain.items()}
    subsets = [subset for size in (3, 2, 1) for subset in combinations(MODALITIES, size)]
    visible = {subset: predict(FUSION, subset) for subset in subsets}
    gold = data.gold(split)
    if gold is None:
        raise ValueError(f"no tracks in the {split} split to compare systems on")
    measured = {name: score_intervals(gold, runs) for name, runs in systems.items()}
    return Comparison(split, gold, systems, measured, visible)


def render_comparison(comparison: Comparison) -> str:
    """Render everything as Markdown."""
    gold, seeds = comparison.gold, len(comparison.systems[FUSION])
    tracks, artists = len(gold.genre), len(set(gold.groups))
    return "\n\n".join([
        f"# Subgenres of {tracks} {comparison.split} tracks by {artists} artists",
        f"Classifiers: mean of {seeds} seed{'s' if seeds > 1 else ''}. In brackets 95 % intervals, by artist.",
        render_measured(comparison.measured),
        "## Fusion less the other systems", render_differences(differences_to_others(comparison)),
        "## Fusion with modalities missing, and its macro-F1 less the best of those seen alone (points)",
        render_missing(comparison),
        "## Calibration of fusion", render_calibration(comparison),
    ]) + "\n"  # fmt: skip


def differences_to_others(comparison: Comparison) -> dict[str, Difference]:
    """Compare fusion's macro-F1 with that of each other system, over the same samples of artists."""
    fusion = comparison.systems[FUSION]
    return {
        f"fusion − {name} ({score.split('_')[0]})": paired_difference(comparison.gold, fusion, runs, score)
        for score in MACRO_F1 for name, runs in comparison.systems.items() if name != FUSION
    }  # fmt: skip


def render_missing(comparison: Comparison) -> str:
    """Render a row a subset of modalities: fusion's scores, and their gap to the best modality alone (points).

    The best is the model of one modality with the highest mean, so that a gap is never flattered by a weaker one.
    """
    gold, systems = comparison.gold, comparison.systems
    alone = {name: mean_scores(gold, systems[name]) for name in MODALITIES if name in systems}
    rows = []
    for subset, runs in comparison.visible.items():
        means = mean_scores(comparison.gold, runs)
        row = [" + ".join(subset), *(f"{means[name]:.3f}" for name in ("genre_accuracy", *MACRO_F1))]
        for score in MACRO_F1:
            best = max((one for one in subset if one in alone), key=lambda one: alone[one][score], default=None)
            row.append(_gap(paired_difference(comparison.gold, runs, comparison.systems[best], score)) if best else "")
        rows.append(row)
    header = ["sees", "genre accuracy", "genre macro f1", "subgenre macro f1", "genre gap", "subgenre gap"]
    return "\n".join(table_lines(header, rows))


def _gap(difference: Difference) -> str:
    value, (low, high) = difference.gap, difference.interval
    return f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def mean_scores(gold: GoldLabels, runs: Runs) -> dict[str, float]:
    """Return each score's mean over a system's runs."""
    scores = [score_labels(gold, run) for run in runs]
    return {name: float(np.mean([one[name] for one in scores])) for name in scores[0]}


def pool_genres(comparison: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of the likeliest genre of every track and seed of fusion, and whether it is right."""
    runs = comparison.systems[FUSION]
    return (
        np.concatenate([run.genres.max(axis=1) for run in runs]),
        np.concatenate([run.genres.argmax(axis=1) == comparison.gold.genre for run in runs]),
    )


def render_calibration(comparison: Comparison) -> str:
    """Render expected calibration errors, and the reliability of the likeliest genre."""
    runs = comparison.systems[FUSION]
    top, right = pool_genres(comparison)
    subgenres = np.stack([run.subgenres for run in runs])
    truth = np.stack([comparison.gold.subgenres] * len(runs))
    rows = [[f"{one.low:.1f}–{one.high:.1f}", str(one.count), f"{one.probability:.3f}", f"{one.share_true:.3f}"]
            for one in reliability_table(top, right)]  # fmt: skip
    errors = (
        f"Expected calibration error: {expected_calibration_error(top, right):.3f} of the likeliest genre, "
        f"{expected_calibration_error(subgenres, truth):.3f} over all subgenres."
    )
    return errors + "\n\n" + "\n".join(table_lines(["probability", "tracks", "mean", "came true"], rows))


def as_scores(comparison: Comparison, data: SubgenreData) -> list[dict]:
    """List the scores of every system as `scores.json` holds them; all but fusion's are baselines."""
    entries = []
    calibration = {"genre_calibration_error": round(expected_calibration_error(*pool_genres(comparison)), 4)}
    for name, measured in comparison.measured.items():
        entries.append({
            "protocol": f"subgenres, {name}", "dataset": data.corpus.id, "config": None, "split": comparison.split,
            "n": len(comparison.gold.genre), **{score: value for score, (value, _) in measured.items()},
            **(calibration if name == FUSION else {"baseline": True}),
            "intervals": {score: list(interval) for score, (_, interval) in measured.items()},
        })  # fmt: skip
    return entries
