"""Tracks of a small label tree with random predictions."""

import numpy as np

from descant.subgenre.label_scores import GoldLabels, LabelPredictions, gather_gold
from descant.subgenre.labels import LabelTree, Track

TREE = LabelTree({"rock": ("punk", "metal"), "pop": ("disco", "punk"), "jazz": ("bebop",)})


def track(number: int, genre: str, subgenres: tuple[str, ...], artist: str | None = None) -> Track:
    return Track(f"t{number}", None, None, artist, genre, subgenres, None, "test", "made")


def random_system(tracks: int = 60, artists: int = 12, seed: int = 0) -> tuple[GoldLabels, LabelPredictions]:
    """Tracks with one to three labels, and predictions that are right more often than by chance."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(tracks):
        labels = tuple(random.choice(TREE.subgenres, size=random.integers(1, 4), replace=False))
        rows.append(track(number, TREE.parent(labels[0]), labels, f"artist {random.integers(artists)}"))
    gold = gather_gold(rows, TREE)
    genres = random.dirichlet(np.ones(3), tracks) + np.eye(3)[gold.genre] * random.random((tracks, 1))
    subgenres = np.round(np.clip(random.random(gold.subgenres.shape) * 0.7 + 0.3 * gold.subgenres, 0, 1), 1)
    genres /= genres.sum(axis=1, keepdims=True)
    return gold, LabelPredictions(genres, subgenres, subgenres > 0.5)
