"""MusicCaps (and, on request, LP-MusicCaps-MC's extra captions) as a dataset of captions of ten-second clips.

    python datasets_scripts/musiccaps.py --annotations musiccaps-public.csv --audio_dir clips --output musiccaps

or `MusicCaps(config_name="captions", annotations=…).download_and_prepare()` with the folder of this file on the path.
"""
# datasets 3 reads the imports of a script by a pattern, so each stands in a line of its own.
# ruff: noqa: I001 (would join them)

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets

from descant.building.clip_rows import Build
from descant.building.clip_rows import build_parser
from descant.building.clip_rows import run_build
from descant.data.tables import locate
from descant.data.annotations import Annotations
from descant.data.annotations import clip_windows
from descant.data.annotations import read_musiccaps
from descant.building.clip_rows import COLUMNS
from descant.building.clip_rows import ClipRowsBuilder
from descant.data.annotations import read_lp_musiccaps_mc


class MusicCaps(ClipRowsBuilder):
    """5,521 ten-second clips with captions by musicians, about 49 words each (Agostinelli et al., 2023)."""

    BUILDER_CONFIGS = [datasets.BuilderConfig(name="captions", version=ClipRowsBuilder.VERSION)]
    DEFAULT_ANNOTATIONS = "google/MusicCaps"
    LICENCE = "cc-by-sa-4.0"
    ROW_COLUMNS = COLUMNS | {"tags": datasets.LargeList(datasets.Value("string"))}

    def __init__(self, *, lp_musiccaps: str | Path | None = None, **kwargs: Any) -> None:
        """Take the sources; `lp_musiccaps` adds pseudo captions of training clips."""
        self.lp_musiccaps = lp_musiccaps
        super().__init__(**kwargs)

    def sources(self) -> list[str | Path]:
        """Return what the rows are read from."""
        return super().sources() + ([self.lp_musiccaps] if self.lp_musiccaps else [])

    def read(self) -> Annotations:
        """Return the captions."""
        (path,) = locate(self.annotations, ["musiccaps-public.csv", ".csv"])
        annotations = read_musiccaps(path)
        if self.lp_musiccaps is None:
            return annotations
        splits = {row.clip_id: row.split for row in annotations.rows}
        files = locate(self.lp_musiccaps, [".parquet", ".jsonl", ".csv"])
        extra = read_lp_musiccaps_mc(files, clip_windows(annotations.rows), splits)
        return Annotations(annotations.rows + extra.rows, annotations.problems + extra.problems)


def main(argv: Sequence[str] | None = None) -> int:
    """Build the dataset, and return the exit status."""
    parser = build_parser(__doc__, ["captions"], MusicCaps.DEFAULT_ANNOTATIONS)
    parser.add_argument("--lp_musiccaps", metavar="SOURCE", help="LP-MusicCaps-MC: its files, folder or Hub id")
    args = parser.parse_args(argv)
    sources = ["google/MusicCaps"] + (["seungheondoh/LP-MusicCaps-MC"] if args.lp_musiccaps else [])
    build = Build("MusicCaps", "musiccaps.py", MusicCaps, sources)
    return run_build(build, args, {"lp_musiccaps": args.lp_musiccaps})


if __name__ == "__main__":
    sys.exit(main())
