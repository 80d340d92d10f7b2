"""Collections of tracks by what names them: the demo corpus, a table, a folder, or the Ludwig layout."""

from descant.data.tracks.demo_tracks import load_demo_tracks
from descant.data.tracks.label_tree import LabelTree
from descant.data.tracks.track import TrackCorpus


def load_tracks(source: str, tree: LabelTree | None = None) -> TrackCorpus:
    """Reads a collection.

    Raises:
        ValueError: nothing is there, or none of it can be used.
    """
    if source == "demo":
        return load_demo_tracks()
    raise ValueError(f"{source}: is neither `demo`, a table nor a folder of tracks")
