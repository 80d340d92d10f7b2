"""Plain systems beside the classifier: the commonest labels, a TF-IDF probe, asking the captioner for the genre."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from descant.data.tracks import LabelTree
from descant.evaluation.labels import (
    LabelPredictions,
    TfidfProbe,
    ask_for_genre,
    gather_gold,
    match_labels,
    one_hot_predictions,
)
from descant.training.subgenre.data import SubgenreData
from descant.training.subgenre.examples import Example
from descant.training.subgenre.prediction import decide_with
from descant.training.subgenre.thresholds import tune_thresholds


def tell_commonest(data: SubgenreData, split: str) -> LabelPredictions:
    """For every track the commonest genre of the training tracks, and its commonest set of subgenres."""
    genre = Counter(track.genre for track in data.tracks["train"]).most_common(1)[0][0]
    sets = Counter(track.subgenres for track in data.tracks["train"] if track.genre == genre)
    tracks = len(data.tracks[split])
    return one_hot_predictions([genre] * tracks, [sets.most_common(1)[0][0]] * tracks, data.tree)


def tell_by_asking(data: SubgenreData, split: str) -> LabelPredictions:
    """The reference's way: asks for the main genre among all, and looks for labels and synonyms in the answers."""
    question = ask_for_genre(data.tree)
    found = [_match(data.hearings[one.track_id].sentences([question]), data.tree) if one.track_id in data.hearings
             else (None, ()) for one in data.tracks[split]]  # fmt: skip
    return one_hot_predictions([genre for genre, _ in found], [names for _, names in found], data.tree)


def _match(answers: Sequence[str], tree: LabelTree) -> tuple[str | None, tuple[str, ...]]:
    """Of several windows, the answer to the most of them."""
    matches = Counter(match_labels(answer, tree) for answer in answers)
    return matches.most_common(1)[0][0] if matches else (None, ())


def tell_by_tfidf(data: SubgenreData, split: str, captions: bool) -> LabelPredictions:
    """A linear probe on the words of lyrics, and of captions too; thresholds from validation."""
    learnt = {example.track_id: example for example in data.examples["train"]}
    tracks = [track for track in data.tracks["train"] if track.track_id in learnt]
    train = gather_gold(tracks, data.tree)
    texts = [_text(learnt[track.track_id], captions) for track in tracks]
    probe = TfidfProbe(texts, train.genre, train.subgenres, len(data.tree.genres))
    parents = [data.tree.genres.index(data.tree.parent(label)) for label in data.tree.subgenres]

    def probabilities(of_split: str) -> np.ndarray:
        return np.concatenate(probe.probabilities([_text(one, captions) for one in data.examples[of_split]]), axis=1)

    gold, told = data.gold("validation"), probabilities(split)
    tuned = {} if gold is None else tune_thresholds(probabilities("validation"), gold)
    labels = [*data.tree.genres, *data.tree.subgenres]
    return decide_with(told, torch.tensor([tuned.get(label, 0.5) for label in labels]), parents)


def _text(example: Example, captions: bool) -> str:
    return " ".join([example.lyrics or "", *((example.captions or ()) if captions else ())])
