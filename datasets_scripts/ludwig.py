"""The Ludwig Music Dataset (moods and subgenres), or one's own collection, as a dataset of labelled tracks.

    python datasets_scripts/ludwig.py --annotations ludwig-music-dataset --output outputs/ludwig

The folder is the unpacked Kaggle archive (`labels.json`, `mp3/<genre>/<id>.mp3`; about 11,000 tracks of 10 genres and
53 subgenres, CC BY-NC-SA 4.0), which needs an account there; or a table of `id, audio, lyrics or lyrics_file, artist,
genre, subgenres`; or folders `genre/subgenre/song.mp3`. Lyrics are read where they lie (a table, `.lrc` or `.txt`
beside the sound, its tags); none are fetched.
"""
# datasets 3 reads the imports of a script by a pattern, so each stands in a line of its own.
# ruff: noqa: I001 (would join them)

import sys
from collections.abc import Sequence

import datasets

from descant.subgenre.dataset import TrackBuild
from descant.subgenre.dataset import build_track_parser
from descant.subgenre.dataset import run_track_build
from descant.subgenre.dataset import TrackRowsBuilder


class Ludwig(TrackRowsBuilder):
    """Tracks with one genre and any number of subgenres each, read by descant."""

    BUILDER_CONFIGS = [datasets.BuilderConfig(name="tracks", version=TrackRowsBuilder.VERSION)]


def main(argv: Sequence[str] | None = None) -> int:
    """Build the dataset, and return the exit status."""
    args = build_track_parser(__doc__).parse_args(argv)
    return run_track_build(TrackBuild("ludwig.py", Ludwig), args)


if __name__ == "__main__":
    sys.exit(main())
