"""The command line that makes a dataset of a collection of tracks: labels, artists and splits, with a card."""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from descant.data.publishing import TREE_FILE, push_dataset, write_config
from descant.data.tracks import TRACK_SPLITS, LabelTree, TrackCorpus, load_tracks, split_corpus
from descant.data.tracks.track_builder import TrackRowsBuilder
from descant.data.tracks.track_card import CONFIG, write_track_card

LOG_FILE = "reading_log.jsonl"


@dataclass(frozen=True)
class TrackBuild:
    """What one script builds."""

    script: str
    builder: type[TrackRowsBuilder]


def build_track_parser(text: str) -> argparse.ArgumentParser:
    """The arguments; `text` is the script's own description."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    """Builds, prints what came of it, and returns the exit status: 0 all tracks, 1 some left out, 2 refused."""
    try:
        return _run(build, args)
    except (ValueError, OSError) as error:
        print(f"{build.script}: {error}", file=sys.stderr)
        return 2


def _run(build: TrackBuild, args: argparse.Namespace) -> int:
    if args.include_lyrics and args.push_to_hub:
        raise ValueError("lyrics are not published: leave --include_lyrics or --push_to_hub out")
    tree = LabelTree.read(args.label_tree) if args.label_tree else None
    corpus = load_tracks(args.annotations, tree, args.audio_dir)
    shares = dict(zip(TRACK_SPLITS, args.shares, strict=True))
    corpus = split_corpus(corpus, args.seed, shares, compare_audio=not args.skip_audio_check)
    builder = build.builder(config_name=CONFIG, corpus=corpus, include_lyrics=args.include_lyrics)
    builder.download_and_prepare()
    args.output.mkdir(parents=True, exist_ok=True)
    write_config(args.output, CONFIG, builder.as_dataset())
    corpus.tree.write(args.output / TREE_FILE)
    _write_log(args.output / LOG_FILE, corpus)
    description = " ".join((build.builder.__doc__ or "").split())
    write_track_card(args.output, corpus, description, _command(build, args))
    _report(corpus, args.output)
    if args.push_to_hub:
        print(push_dataset(args.output, args.push_to_hub, args.private))
    return 1 if corpus.problems else 0


def _write_log(path: Path, corpus: TrackCorpus) -> None:
    """Everything that was left out or handled by a rule, a line each."""
    records = [("problem", text) for text in corpus.problems] + [("note", text) for text in corpus.notes]
    lines = (json.dumps({"kind": kind, "text": text}, ensure_ascii=False) + "\n" for kind, text in records)
    path.write_text("".join(lines), encoding="utf-8")


def _command(build: TrackBuild, args: argparse.Namespace) -> str:
    # Names without their folders: where things lie on this machine is nobody's business.
    command = ["python", f"datasets_scripts/{build.script}", "--annotations", Path(args.annotations).name]
    command += ["--label_tree", Path(args.label_tree).name] if args.label_tree else []
    command += ["--shares", *map(str, args.shares), "--seed", str(args.seed), "--output", args.output.name]
    return " ".join(command)


def _report(corpus: TrackCorpus, output: Path) -> None:
    for problem in corpus.problems:
        print(f"skipped {problem}", file=sys.stderr)
    counts = ", ".join(f"{len(corpus.split(name))} {name}" for name in TRACK_SPLITS)
    print(f"{len(corpus.tracks)} tracks ({counts}), {len(corpus.tree.genres)} genres, "
          f"{len(corpus.tree.subgenres)} subgenres")  # fmt: skip
    print(f"{len(corpus.problems)} problems, {len(corpus.notes)} notes: {output / LOG_FILE}")
