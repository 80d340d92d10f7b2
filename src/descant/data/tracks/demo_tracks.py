"""The tracks of the demo corpus."""

import csv

from descant.data.demo import CORPUS_VERSION, demo_dir
from descant.data.tracks.label_tree import LabelTree
from descant.data.tracks.track import Track, TrackCorpus

SOURCE = "demo"
INSTRUMENTAL = "[Instrumental]"


def load_demo_tracks() -> TrackCorpus:
    """Every clip as a track, in the order of the facts table; its splits are those of the corpus."""
    with (demo_dir() / "demo_tracks.csv").open(encoding="utf-8", newline="") as file:
        tracks = [_track(row) for row in csv.DictReader(file)]
    tree = LabelTree.read(demo_dir() / "demo_labels.json")
    return TrackCorpus(tracks, tree, "descant/demo", "apache-2.0", CORPUS_VERSION)


def _track(row: dict[str, str]) -> Track:
    lyrics = None if row["lyrics"] == INSTRUMENTAL else row["lyrics"]
    return Track(row["id"], demo_dir() / row["audio"], lyrics, row["artist"], row["genre"], (row["subgenres"],),
                 row["language"] or None, row["split"], SOURCE)  # fmt: skip
