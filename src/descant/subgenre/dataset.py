"""A collection of tracks as a `datasets` builder: a row a track, its labels whole, its split by artist and sound."""

import argparse
import hashlib
import logging
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import DatasetCardData

from descant.building.dataset_folder import bare_name, push_dataset, write_config
from descant.files import JsonLines, write_whole
from descant.program import ArgumentParser, require_writable, run_program, say, show
from descant.subgenre.artist_splits import split_corpus
from descant.subgenre.labels import TRACK_SPLITS, TREE_FILE, LabelTree, Track, TrackCorpus
from descant.subgenre.reading_tracks import load_tracks

COLUMNS = {
    "id": datasets.Value("string"),
    "audio_file": datasets.Value("string"),  # the bare name; sound is never part of the dataset
    "artist": datasets.Value("string"),
    "genre": datasets.Value("string"),
    "subgenres": datasets.LargeList(datasets.Value("string")),
    "language": datasets.Value("string"),
    "split": datasets.Value("string"),
}
LYRICS_COLUMN = {"lyrics": datasets.Value("string")}


class TrackRowsBuilder(datasets.GeneratorBasedBuilder):
    """Rows of a corpus whose tracks all have a split.

    Args:
        corpus: what `load_tracks` and `split_corpus` give.
        include_lyrics: also write the lyrics. They are their authors': a dataset with them stays on this machine.
    """

    VERSION = datasets.Version("1.0.0")

    def __init__(
        self, *, corpus: TrackCorpus, include_lyrics: bool = False, hash: str | None = None, **kwargs: Any
    ) -> None:
        self.corpus = corpus
        self.row_columns = COLUMNS | (LYRICS_COLUMN if include_lyrics else {})
        super().__init__(hash=self._hash_rows(hash or ""), **kwargs)

    def _hash_rows(self, given: str) -> str:
        digest = hashlib.sha256(given.encode())
        for track in self.corpus.tracks:
            digest.update(repr(_row(track, self.row_columns)).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:32]

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            features=datasets.Features(self.row_columns), description=self.__doc__ or "", license=self.corpus.licence
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        names = dict.fromkeys(track.split for track in self.corpus.tracks)
        return [datasets.SplitGenerator(name=name, gen_kwargs={"split": name}) for name in names]

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, track in enumerate(self.corpus.split(split)):
            yield number, _row(track, self.row_columns)


def _row(track: Track, columns: dict[str, Any]) -> dict[str, Any]:
    fields = {
        "id": track.track_id, "audio_file": track.audio.name if track.audio else None, "artist": track.artist,
        "genre": track.genre, "subgenres": list(track.subgenres), "language": track.language, "split": track.split,
        "lyrics": track.lyrics,
    }  # fmt: skip
    return {name: fields[name] for name in columns}


CONFIG = "tracks"


def write_track_card(folder: Path, corpus: TrackCorpus, description: str, command: str) -> None:
    """Write README.md beside the rows."""
    splits = [name for name in TRACK_SPLITS if corpus.split(name)]
    files = [{"split": name, "path": f"{CONFIG}/{name}-*.parquet"} for name in splits]
    data = DatasetCardData(
        license=corpus.licence,
        pretty_name=corpus.id,
        tags=["music", "audio", "descant"],
        task_categories=["audio-classification", "text-classification"],
        configs=[{"config_name": CONFIG, "data_files": files}],
        revision=corpus.revision,
    )
    parts = [f"---\n{data.to_yaml()}\n---\n\n# {corpus.id}", description, _counts(corpus, splits), _columns(corpus)]
    parts.append(f"To build it anew:\n\n```\n{command}\n```")
    write_whole(folder / "README.md", "\n\n".join(parts) + "\n")


def _counts(corpus: TrackCorpus, splits: list[str]) -> str:
    lines = ["| split | tracks | artists | with lyrics |", "|---|---|---|---|"]
    for name in splits:
        tracks = corpus.split(name)
        artists = len({track.artist for track in tracks if track.artist})
        sung = sum(track.lyrics is not None for track in tracks)
        lines.append(f"| {name} | {len(tracks):,} | {artists:,} | {sung:,} |")
    genres = Counter(track.genre for track in corpus.tracks)
    lines += ["", "| genre | tracks | subgenres |", "|---|---|---|"]
    for genre in corpus.tree.genres:
        lines.append(f"| {genre} | {genres[genre]:,} | {', '.join(corpus.tree.branches[genre])} |")
    return "\n".join(lines)


def _columns(corpus: TrackCorpus) -> str:
    languages = Counter(track.language for track in corpus.tracks if track.language).most_common(8)
    named = ", ".join(f"{language} {count:,}" for language, count in languages) or "none"
    return f"""No artist stands in two splits. Subgenres are full names (`genre---subgenre`), all of them in
`label_tree.json`. Sound is not part of this dataset, nor are lyrics unless the builder was asked for them.
Languages of the lyrics: {named}. Problems on the way: {len(corpus.problems):,}."""


LOG_FILE = "reading_log.jsonl"


@dataclass(frozen=True)
class TrackBuild:
    """What one script builds."""

    script: str
    builder: type[TrackRowsBuilder]


def build_track_parser(text: str) -> argparse.ArgumentParser:
    """Build the parser of a script's command line; text: the script's own description."""
    parser = ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", metavar="SOURCE", required=True, help="the folder or table of the tracks")
    parser.add_argument("--audio_dir", metavar="FOLDER", help="sound files named by id, where the source names none")
    parser.add_argument("--label_tree", metavar="FILE", help="the labels that count (default: those that occur)")
    parser.add_argument("--output", metavar="FOLDER", type=Path, required=True, help="where the dataset goes")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of splits")
    parser.add_argument("--shares", type=float, nargs=3, default=[0.8, 0.1, 0.1], metavar=("TRAIN", "VALID", "TEST"))
    parser.add_argument("--skip_audio_check", action="store_true", help="do not look for the same sound in two files")
    parser.add_argument("--include_lyrics", action="store_true", help="also write the lyrics, for use on this machine")
    parser.add_argument("--push_to_hub", metavar="ID", help="publish there, without sound and lyrics")
    parser.add_argument("--private", action="store_true", help="create the Hub repository as a private one")
    return parser


def run_track_build(build: TrackBuild, args: argparse.Namespace) -> int:
    """Build, print what came of it, and return the exit status (see `descant.program`): 1 where some are left out."""
    return run_program(build.script, lambda: _run(build, args), level=logging.WARNING)


def _run(build: TrackBuild, args: argparse.Namespace) -> int:
    if args.include_lyrics and args.push_to_hub:
        raise ValueError("lyrics are not published: leave --include_lyrics or --push_to_hub out")
    tree = LabelTree.read(args.label_tree) if args.label_tree else None
    corpus = load_tracks(args.annotations, tree, args.audio_dir)
    require_writable(args.output)
    shares = dict(zip(TRACK_SPLITS, args.shares, strict=True))
    corpus = split_corpus(corpus, args.seed, shares, compare_audio=not args.skip_audio_check)
    builder = build.builder(config_name=CONFIG, corpus=corpus, include_lyrics=args.include_lyrics)
    builder.download_and_prepare()
    write_config(args.output, CONFIG, builder.as_dataset())
    corpus.tree.write(args.output / TREE_FILE)
    _write_log(args.output / LOG_FILE, corpus)
    description = " ".join((build.builder.__doc__ or "").split())
    write_track_card(args.output, corpus, description, _command(build, args))
    _report(corpus, args.output)
    if args.push_to_hub:
        show(push_dataset(args.output, args.push_to_hub, args.private, more=[TREE_FILE]))
    return 1 if corpus.problems else 0


def _write_log(path: Path, corpus: TrackCorpus) -> None:
    """Write everything that was left out or handled by a rule, a line each."""
    records = [("problem", text) for text in corpus.problems] + [("note", text) for text in corpus.notes]
    JsonLines(path).write({"kind": kind, "text": text} for kind, text in records)


def _command(build: TrackBuild, args: argparse.Namespace) -> str:
    sources = {name: getattr(args, name) for name in ("annotations", "audio_dir", "label_tree")}
    command = ["python", f"datasets_scripts/{build.script}"]
    command += [part for name, one in sources.items() if one for part in (f"--{name}", bare_name(one))]
    command += ["--shares", *map(str, args.shares), "--seed", str(args.seed), "--output", args.output.name]
    command += [f"--{name}" for name in ("skip_audio_check", "include_lyrics") if getattr(args, name)]
    return shlex.join(command)


def _report(corpus: TrackCorpus, output: Path) -> None:
    for problem in corpus.problems:
        say(f"skipped {problem}")
    counts = ", ".join(f"{len(corpus.split(name))} {name}" for name in TRACK_SPLITS)
    show(f"{len(corpus.tracks)} tracks ({counts}), {len(corpus.tree.genres)} genres, "
         f"{len(corpus.tree.subgenres)} subgenres")  # fmt: skip
    show(f"{len(corpus.problems)} problems, {len(corpus.notes)} notes: {output / LOG_FILE}")
