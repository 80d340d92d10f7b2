"""`descant tag`: what is sure about songs written into their tags, and taken back."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from descant.commands.evaluate import require_unset
from descant.program import escape, say, share, show, show_json

if TYPE_CHECKING:
    from descant.collections.tagging import Change
    from descant.data.tables import Problem
    from descant.files import Record

EXAMPLES = """\
examples:
  descant tag music/ --from descriptions.jsonl --pretend
  descant tag music/ --from descriptions.jsonl --fields genre,mood,comment --mode append --genres my_genres.yaml
  descant tag music/ --undo

MP3, FLAC, Ogg, Opus, MP4, WAV and AIFF, by mutagen (pip install descant[tags]). The sound stays as it is. The folder's
.descant-tags.jsonl remembers what each field held, for --undo. --genres maps our names to yours (YAML or JSON): a
name, a list, or nothing to leave a genre out.
Exit status: 0 all done, 1 some files skipped, 2 usage, 130 interrupted.
"""
FIELDS = ("genre", "mood", "bpm", "key", "comment")
FOR_TAGGING = ("fields", "mode", "min_confidence", "genres")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "tag",
        help="write genre, mood, BPM and key into the tags of songs",
        description="Write what descriptions are sure of into the tags of songs, or take it back.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the folder of songs")
    parser.add_argument("--from", dest="descriptions", metavar="FILE", type=Path, help="descriptions to tag by")
    parser.add_argument(
        "--fields", metavar="NAMES", type=fields, default=FIELDS[:-1],
        help=f"of {','.join(FIELDS)} (default: all but comment, which gets [MOOD: calm; …])",
    )  # fmt: skip
    parser.add_argument(
        "--mode", choices=("fill", "append", "overwrite"), default="fill",
        help="write fields that are empty, beside what is there, or over it (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--min_confidence", metavar="P", type=share,
        help="write what is at least so probable, several genres too (default: the model's own thresholds)",
    )  # fmt: skip
    parser.add_argument("--genres", metavar="FILE", type=Path, help="a YAML or JSON file: our genres → yours")
    parser.add_argument("--undo", action="store_true", help="give every field back what it held before")
    parser.add_argument("--pretend", action="store_true", help="say what would change, and change nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object a file")
    parser.set_defaults(func=run, unset={name: parser.get_default(name) for name in FOR_TAGGING})


def fields(text: str) -> tuple[str, ...]:
    """Read the option `--fields`."""
    names = tuple(name.strip() for name in text.split(","))
    if not set(names) <= set(FIELDS):
        raise argparse.ArgumentTypeError(f"{text!r}: fields are {', '.join(FIELDS)}")
    return names


def run(args: argparse.Namespace) -> int:
    """Tag or take back, and return the exit status; raises ValueError for what cannot be done at all."""
    from descant.collections.tag_files import require_mutagen

    if args.undo == (args.descriptions is not None):
        raise ValueError("give either --from, to tag, or --undo")
    if args.undo:
        require_unset(args, FOR_TAGGING, "with --undo, which gives all fields back what they held")
    require_mutagen()
    descriptions, problems = read_described(args.descriptions)
    changed, failed = 0, len(problems)
    for change in make_changes(args, descriptions):
        if change.error:
            failed += 1
            say(f"descant tag: {change.audio}: {change.error}")
        if change.after:
            changed += 1
            _show(change, args.json)
    if not args.json:
        done = "would change" if args.pretend else "restored" if args.undo else "tagged"
        show(f"{args.folder}: {changed} {'file' if changed == 1 else 'files'} {done}, {failed} skipped")
    return 1 if failed else 0


def read_described(path: Path | None) -> "tuple[list[Record], list[Problem]]":
    """Read the descriptions to tag by, none for None, and name the records that are none; raises ValueError."""
    from descant.collections.facts import read_descriptions

    descriptions, problems = read_descriptions(path) if path else ([], [])
    for problem in problems:
        say(f"descant tag: {problem}")
    return descriptions, problems


def make_changes(args: argparse.Namespace, descriptions: "Sequence[Record]") -> "Iterator[Change]":
    """Yield what is done to each file, as it is done."""
    from descant.collections.tagging import TagSettings, find_undescribed, read_genre_map, tag_folder, undo_folder

    if args.undo:
        yield from undo_folder(args.folder, args.pretend)
        return
    genres = read_genre_map(args.genres) if args.genres else None
    settings = TagSettings(args.fields, args.mode, args.min_confidence, genres, args.pretend)
    yield from tag_folder(args.folder, descriptions, settings)
    for path in find_undescribed(args.folder, descriptions):
        say(f"descant tag: {path}: has no description, and stays as it is")


def _show(change: "Change", as_json: bool) -> None:
    if as_json:
        record = {"audio": change.audio, "before": change.before, "after": change.after}
        show_json(json.dumps(record, ensure_ascii=False))
    else:
        show("\n".join(map(escape, change.to_lines())))
