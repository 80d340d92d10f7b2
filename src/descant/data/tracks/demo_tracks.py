"""The tracks of the demo corpus."""

from descant.data.demo import CORPUS_VERSION, demo_dir, facts
from descant.data.tracks.label_tree import LabelTree, join_label
from descant.data.tracks.track import Track, TrackCorpus

SOURCE = "demo"


def load_demo_tracks() -> TrackCorpus:
    """Every clip as a track, in the order of the facts table; its splits are those of the corpus."""
    tracks = [_track(row) for row in facts()]
    labels = [(track.genre, track.subgenres[0]) for track in tracks]
    tree = LabelTree.of((genre for genre, _ in labels), (subgenre for _, subgenre in labels))
    return TrackCorpus(tracks, tree, "descant/demo", "apache-2.0", CORPUS_VERSION)


def _track(row: dict[str, str]) -> Track:
    audio = demo_dir() / "audio" / f"{row['clip_id']}.ogg"
    subgenres = (join_label(row["genre"], row["subgenre"]),)
    return Track(row["clip_id"], audio, None, None, row["genre"], subgenres, None, row["split"], SOURCE)
