"""Collections of tracks with lyrics, artists and labels."""

from descant.data.tracks.artist_splits import split_by_artist
from descant.data.tracks.corpus_splits import split_corpus
from descant.data.tracks.label_tree import LabelTree, join_label, split_label
from descant.data.tracks.loading import load_tracks
from descant.data.tracks.track import TRACK_SPLITS, Track, TrackCorpus

__all__ = [
    "TRACK_SPLITS", "LabelTree", "Track", "TrackCorpus", "join_label", "load_tracks", "split_by_artist",
    "split_corpus", "split_label",
]  # fmt: skip
