"""MusicInstruct as a dataset of questions and answers about MusicCaps' ten-second clips.

    python datasets_scripts/music_instruct.py --dataset_config short long all --annotations MusicInstruct/ \\
        --musiccaps musiccaps-public.csv --audio_dir clips --output outputs/music_instruct

or `MusicInstruct(config_name="short", …).download_and_prepare()` with the folder of this file on the path.
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
from descant.data.tables import is_one_file
from descant.data.tables import locate
from descant.data.annotations import Annotations
from descant.data.annotations import clip_windows
from descant.data.annotations import read_music_instruct
from descant.data.annotations import read_musiccaps
from descant.building.clip_rows import ClipRowsBuilder

NAMES = {
    "short": ("short.json",),
    "long": ("long.json",),
    "all": ("music_instruct.json", "musicinstruct.json", "_both.json", "_all.json"),  # short and long together
}
FILES = NAMES | {"all": (*NAMES["all"], ".json")}


class MusicInstruct(ClipRowsBuilder):
    """60,493 questions and answers about MusicCaps' clips: 27,540 short, 32,953 long (Deng et al., 2023)."""

    BUILDER_CONFIGS = [datasets.BuilderConfig(name=name, version=ClipRowsBuilder.VERSION) for name in FILES]
    DEFAULT_ANNOTATIONS = "m-a-p/Music-Instruct"
    LICENCE = "cc-by-nc-4.0"

    def __init__(self, *, musiccaps: str | Path | None = None, **kwargs: Any) -> None:
        """Take the sources; `musiccaps` gives the clips' windows."""
        self.musiccaps = musiccaps or "google/MusicCaps"
        super().__init__(**kwargs)

    def sources(self) -> list[str | Path]:
        """Return what the rows and their windows are read from."""
        return [*super().sources(), self.musiccaps]

    def read(self) -> Annotations:
        """Return the questions of this configuration."""
        require_named(self.annotations, self.config.name)
        (captions,) = locate(self.musiccaps, ["musiccaps-public.csv", ".csv"])
        windows = clip_windows(read_musiccaps(captions).rows)
        annotations = Annotations()
        for path in locate(self.annotations, FILES[self.config.name]):
            part = read_music_instruct(path, windows, source=path.stem)
            annotations.rows.extend(part.rows)
            annotations.problems.extend(part.problems)
        return annotations


def require_named(annotations: str | Path, config: str) -> None:
    """Raise ValueError where a single file's name says that it holds another configuration's questions."""
    name = str(annotations).split("?")[0].lower()
    named = next((other for other, endings in NAMES.items() if name.endswith(endings)), config)
    if named != config:
        raise ValueError(
            f"{annotations}: by its name it holds the questions of {named!r}, not of {config!r}; name the file of "
            f"{config!r} or the folder of all, or give --dataset_config {named}"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Build the dataset, and return the exit status."""
    parser = build_parser(__doc__, list(FILES), MusicInstruct.DEFAULT_ANNOTATIONS)
    parser.add_argument("--musiccaps", metavar="SOURCE", help="MusicCaps' file, Hub id or URL, for the clips' windows")
    args = parser.parse_args(argv)
    if len(args.dataset_config) > 1 and args.annotations and is_one_file(args.annotations):
        parser.error(
            f"--annotations {args.annotations} is one file for {len(args.dataset_config)} configs; give their folder"
        )
    sources = [MusicInstruct.DEFAULT_ANNOTATIONS, "google/MusicCaps"]
    build = Build("MusicInstruct", "music_instruct.py", MusicInstruct, sources)
    return run_build(build, args, {"musiccaps": args.musiccaps})


if __name__ == "__main__":
    sys.exit(main())
