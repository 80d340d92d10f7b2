"""`descant report`: a page of tracks with players, spectrograms and answers."""

import argparse
import json
from pathlib import Path

from descant.program import require_writable, show, show_json

EXAMPLES = """\
examples:
  descant report descriptions.jsonl --output report
  descant report answers.jsonl --output report --single_file

Writes report.html and pictures/ into the folder; sound is linked from where it lies. The page opens without a server
and asks none for anything. --single_file puts all into report.html (50 tracks at most).
Exit status: 0 done, 1 some tracks lack their sound or picture, 2 usage, 130 interrupted.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "report",
        help="make a page of described tracks",
        description="Make a page of described tracks: players, spectrograms, answers with bars.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="descriptions (.jsonl, .parquet) or answers.jsonl")
    parser.add_argument("--output", metavar="FOLDER", type=Path, default=Path("report"), help="default: %(default)s")
    parser.add_argument("--audio_dir", metavar="DIR", type=Path, help="where sound with relative paths lies")
    parser.add_argument("--single_file", action="store_true", help="put pictures and sound into report.html")
    parser.add_argument("--no_pictures", action="store_true", help="draw no spectrograms")
    parser.add_argument("--json", action="store_true", help="print where the page is as JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Write the page, and return the exit status; raises ValueError for a file of something else."""
    from descant.collections.report import report_problems, write_report

    require_writable(args.output)
    settings = {"single_file": args.single_file, "pictures": not args.no_pictures, "audio_dir": args.audio_dir}
    count, problems = write_report(args.file, args.output, **settings)
    report_problems(problems)
    page = args.output / "report.html"
    if args.json:
        show_json(json.dumps({"page": str(page), "tracks": count, "problems": len(problems)}))
    else:
        show(f"{page}: {count} tracks, {len(problems)} problems")
    return 1 if problems else 0
