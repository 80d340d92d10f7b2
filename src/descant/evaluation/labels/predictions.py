"""What a system says about tracks, and what is true of them, as arrays over the labels of a tree."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from descant.data.tracks import LabelTree, Track


@dataclass(frozen=True)
class GoldLabels:
    """The true labels of tracks.

    genre: (tracks,), places in the tree's genres. subgenres: (tracks, subgenres), true or false.
    groups: (tracks,), the artist, or the track itself where the artist is unknown; resampled together.
    """

    tree: LabelTree
    genre: np.ndarray
    subgenres: np.ndarray
    groups: tuple[str, ...]


@dataclass(frozen=True)
class LabelPredictions:
    """A system's probabilities, and what it decides.

    genres: (tracks, genres); the decided genre is the most probable one. subgenres: (tracks, subgenres).
    chosen: (tracks, subgenres), the decided subgenres.
    """

    genres: np.ndarray
    subgenres: np.ndarray
    chosen: np.ndarray


def gather_gold(tracks: Sequence[Track], tree: LabelTree) -> GoldLabels:
    """The true labels; raises ValueError for one that is not in the tree."""
    genres = {name: place for place, name in enumerate(tree.genres)}
    unknown = [(track.track_id, track.genre) for track in tracks if track.genre not in genres]
    if unknown:
        raise ValueError(f"track {unknown[0][0]}: genre {unknown[0][1]!r} is not in the label tree")
    groups = tuple(f"artist {track.artist}" if track.artist else f"track {track.track_id}" for track in tracks)
    subgenres = mark_labels([track.subgenres for track in tracks], tree)
    return GoldLabels(tree, np.array([genres[track.genre] for track in tracks], dtype=int), subgenres, groups)


def mark_labels(labels: Sequence[Collection[str]], tree: LabelTree) -> np.ndarray:
    """Sets of full names as (sets, subgenres), true where a set has the label."""
    places = {name: place for place, name in enumerate(tree.subgenres)}
    marked = np.zeros((len(labels), len(places)), dtype=bool)
    for row, names in enumerate(labels):
        for name in names:
            if name not in places:
                raise ValueError(f"subgenre {name!r} is not in the label tree")
            marked[row, places[name]] = True
    return marked


def one_hot_predictions(
    genres: Sequence[str | None], subgenres: Sequence[Collection[str]], tree: LabelTree
) -> LabelPredictions:
    """Decisions without probabilities: 1 for what is decided. No genre (None) is a guess without any confidence."""
    places = {name: place for place, name in enumerate(tree.genres)}
    probabilities = np.zeros((len(genres), len(places)))
    for row, genre in enumerate(genres):
        if genre is not None:
            probabilities[row, places[genre]] = 1.0
    chosen = mark_labels(subgenres, tree)
    return LabelPredictions(probabilities, chosen.astype(float), chosen)
