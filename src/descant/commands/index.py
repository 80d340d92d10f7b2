"""`descant index`: described songs in one SQLite file, for `descant search`."""

import argparse
import json
from pathlib import Path

from descant.program import require_writable, say, show, show_json, silence_transformers

EXAMPLES = """\
examples:
  descant index descriptions.jsonl --database music.db
  descant search "calm piano without drums, slow" --database music.db

The captions' meaning is indexed where the small sentence encoder is installed (pip install descant[search]).
Exit status: 0 done, 1 some records left out, 2 usage.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "index",
        help="make an index of described songs, for search",
        description="Write descriptions into one SQLite file that descant search reads.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("descriptions", metavar="FILE", nargs="+", type=Path, help="descriptions (.jsonl, .parquet)")
    parser.add_argument("--database", metavar="FILE", type=Path, default=Path("music.db"), help="default: %(default)s")
    parser.add_argument("--plain", action="store_true", help="without the meaning of captions: words and facts alone")
    parser.add_argument("--json", action="store_true", help="print what the index holds as JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Write the index, and return the exit status; raises ValueError for files without descriptions."""
    from descant.collections.facts import read_descriptions
    from descant.collections.search_index import has_encoder, load_encoder, write_index

    if args.database.is_dir():
        raise ValueError(f"--database {args.database}: is a folder: name a file, for example music.db")
    require_writable(args.database.parent)
    descriptions, problems = [], []
    for path in args.descriptions:
        good, bad = read_descriptions(path)
        descriptions += good
        problems += bad
    for problem in problems:
        say(f"descant index: {problem}")
    encoder = None
    if has_encoder() and not args.plain:
        silence_transformers()
        encoder = load_encoder()
    write_index(args.database, descriptions, encoder, [path.parent for path in args.descriptions])
    songs = len({one["audio"] for one in descriptions})
    if args.json:
        found = {"database": str(args.database), "songs": songs, "sentences": encoder is not None}
        show_json(json.dumps(found | {"left_out": len(problems)}))
    else:
        how = "words, facts and meaning" if encoder else "words and facts"
        show(f"{args.database}: {songs} songs by {how}, {len(problems)} left out")
    return 1 if problems else 0
