"""`descant download`: the clips of a MusicCaps file, cut out of their YouTube recordings."""

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from descant.program import count, require_writable, say, seconds, show

if TYPE_CHECKING:
    from descant.data.annotations import Annotations
    from descant.data.download import DownloadSettings, Summary

YOUTUBE = "https://www.youtube.com/watch?v={ytid}"
EXAMPLES = """\
examples:
  descant download musiccaps-public.csv clips --limit 20
  descant download musiccaps-public.csv clips --cookies cookies.txt --retry_failed

Each clip becomes clips/[ytid]-[start-end].flac: 16 kHz, mono, exactly the annotated window. clips/ledger.jsonl has a
line for every clip that was tried: ok, private, removed, age, geo, blocked, network, bad audio or failed. Run it again
to go on: ok clips are kept, network, blocked and failed ones tried again, the others with --retry_failed. When YouTube
asks to slow down, the whole run pauses, and in the end stops: go on some hours later, perhaps with --cookies of a
browser that is signed in. YouTube needs a JavaScript runtime beside yt-dlp: pip install deno. Exit status: 0 all clips
are there, 1 some are not, 2 refused, 130 interrupted.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "download",
        help="fetch the clips of MusicCaps",
        description="Fetch the clips of a MusicCaps annotation file from YouTube, politely and exactly cut.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("annotations", metavar="FILE", type=Path, help="musiccaps-public.csv, or one of its columns")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where the clips and the ledger go")
    parser.add_argument("--limit", metavar="N", type=count(1), help="only the first N clips of the file")
    parser.add_argument("--jobs", metavar="N", type=count(1), default=2, help="clips at a time (default: %(default)s)")
    parser.add_argument(
        "--sleep", metavar="S", type=seconds, default=2.0, help="seconds between clips (default: %(default)s)"
    )
    parser.add_argument("--retry_failed", action="store_true", help="also try what an earlier run found gone or bad")
    parser.add_argument("--cookies", metavar="FILE", type=Path, help="a cookies.txt; it is read and never written")
    parser.add_argument("--ffmpeg", metavar="PROGRAM", help="an ffmpeg other than the system's")
    parser.add_argument("--url_template", metavar="URL", default=YOUTUBE, help="another place, with {ytid} in it")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Download, print the summary, and return the exit status."""
    from descant.data.annotations import read_musiccaps
    from descant.data.download import download_clips

    if args.url_template == YOUTUBE and not shutil.which("deno"):
        say("descant download: YouTube gives little without deno: pip install deno")
    found = read_musiccaps(args.annotations)
    for problem in found.problems:
        say(f"descant download: skipped {problem}")
    if not found.rows:
        raise ValueError(f"{args.annotations}: holds no record that can be used")
    settings = _settings(args)
    require_writable(args.folder)
    summary = download_clips(found.rows[: args.limit], args.folder, settings)
    show(format_summary(summary, found, args.folder))
    return 0 if summary.complete and not found.problems else 1


def _settings(args: argparse.Namespace) -> "DownloadSettings":
    from descant.data.download import DownloadSettings
    from descant.data.download.fetch import read_cookies

    return DownloadSettings(
        jobs=args.jobs,
        sleep_s=args.sleep,
        retry_failed=args.retry_failed,
        cookies=read_cookies(args.cookies) if args.cookies else None,
        ffmpeg=args.ffmpeg,
        url_template=args.url_template,
    )


def format_summary(summary: "Summary", found: "Annotations", folder: Path) -> str:
    """Return one line a status, the bad records of the file, and what ended the run."""
    lines = [f"{status:<12}{count:>7}" for status, count in summary.counts.most_common()]
    lines += [f"{'bad records':<12}{len(found.problems):>7}"] if found.problems else []
    lines.append(f"{'total':<12}{sum(summary.counts.values()) + len(found.problems):>7}")
    lines += [f"stopped: {summary.stopped}"] if summary.stopped else []
    return "\n".join([*lines, f"ledger: {folder / 'ledger.jsonl'}"])
