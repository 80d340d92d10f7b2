"""The tracks of the demo corpus."""

from descant.data.demo import CORPUS_VERSION, SPLITS, demo_dir
from descant.data.tracks.label_tree import LabelTree
from descant.data.tracks.track import TrackCorpus
from descant.data.tracks.track_records import read_records
from descant.data.tracks.track_table import read_track_table

SOURCE = "demo"


def load_demo_tracks() -> TrackCorpus:
    """Every clip as a track, in the order of the facts table; its splits are those of the corpus.

    Raises:
        ValueError: a record of the corpus does not read, which an intact installation rules out.
    """
    records, problems = read_track_table(demo_dir() / "demo_tracks.csv", SPLITS)
    tree = LabelTree.read(demo_dir() / "demo_labels.json")
    found = read_records(records, tree, SOURCE)
    if problems or found.problems:
        raise ValueError(f"the demo corpus is damaged, reinstall descant: {[*problems, *found.problems][0]}")
    return TrackCorpus(found.tracks, tree, "descant/demo", "apache-2.0", CORPUS_VERSION, notes=found.notes)
