"""A collection's splits, with its sounds compared: no artist and no sound stands in two of them."""

from collections.abc import Mapping
from dataclasses import replace

from descant.data.tracks.artist_splits import split_by_artist
from descant.data.tracks.audio_fingerprint import fingerprint_files
from descant.data.tracks.near_duplicates import find_duplicates
from descant.data.tracks.track import TrackCorpus


def split_corpus(
    corpus: TrackCorpus, seed: int = 0, shares: Mapping[str, float] | None = None, compare_audio: bool = True
) -> TrackCorpus:
    """The corpus with a split for each track (see `split_by_artist`).

    Args:
        compare_audio: read every sound file's beginning and keep those together that sound the same. Each pair is
            noted; a file that cannot be read is a problem, and is compared with no other.
    """
    prints, problems = {}, []
    if compare_audio:
        prints, problems = fingerprint_files({track.track_id: track.audio for track in corpus.tracks if track.audio})
    pairs = find_duplicates(prints)
    tracks = split_by_artist(corpus.tracks, seed, shares, pairs)
    notes = [f"{first} and {second} are the same sound and stay in one split" for first, second in pairs]
    return replace(corpus, tracks=tracks, problems=corpus.problems + problems, notes=corpus.notes + notes)
