"""`descant search`: songs by words, conditions and likeness."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from descant.program import count, escape, say, show, show_json, silence_transformers

if TYPE_CHECKING:
    from descant.collections.search import Hit

EXAMPLES = """\
examples:
  descant search "calm piano without drums, slow"
  descant search "dreamy synthesizer" --where "genre = 'electronic' and bpm < 100 and vocals < 0.2" --m3u dreamy.m3u
  descant search --like music/song.mp3 --limit 20 --json

--where takes one SQL expression over genre, mood, tempo, metre, voice, sound, energy (the likeliest), instruments,
key, bpm, loudness_lufs, duration_s, genre_p, mood_p, tempo_p, vocals and each instrument (probabilities, such as
electric_guitar > 0.5).
Exit status: 0 done (also where nothing fits), 1 a playlist cannot hold a song's path, 2 usage.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "search",
        help="find songs by words, conditions and likeness",
        description="Find songs of an index by words, conditions and likeness.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("query", metavar="WORDS", nargs="?", default="", help='such as "calm piano without drums"')
    parser.add_argument("--database", metavar="FILE", type=Path, default=Path("music.db"), help="default: %(default)s")
    parser.add_argument("--where", metavar="CONDITION", help="an SQL expression that songs must fulfil")
    parser.add_argument(
        "--like", metavar="SONG", help="a song whose likes are looked for; one that is not in the index is heard first"
    )
    parser.add_argument(
        "--model", metavar="MODEL", help="hears a SONG that is not in the index (default: the model that made it)"
    )
    parser.add_argument("--limit", metavar="N", type=count(1), default=10, help="songs at most (default: %(default)s)")
    parser.add_argument("--m3u", metavar="FILE", type=Path, help="write the songs into a playlist")
    parser.add_argument("--json", action="store_true", help="print one JSON object a song")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Search, and return the exit status; raises ValueError for what cannot be searched."""
    import sqlite3

    from descant.collections.search import Searcher, describe_outside, write_playlist

    if not args.query.strip() and args.where is None and args.like is None:
        raise ValueError("give words, --where or --like")
    if args.model and args.like is None:
        raise ValueError("--model does nothing without --like, whose song it hears: leave it out")
    searcher = Searcher(args.database)
    if args.like is not None or searcher.has_sentences:
        silence_transformers()
    try:
        is_outside = args.like is not None and not searcher.holds(args.like)
        like = describe_outside(searcher, args.like, args.model) if is_outside else args.like
        hits = searcher.search(args.query, args.where, like, args.limit)
    except sqlite3.Error as error:
        raise ValueError(f"{args.database}: is damaged ({error}): make it again with descant index") from error
    left_out = write_playlist(args.m3u, hits) if args.m3u else []
    for hit in left_out:
        say(f"descant search: {hit.path}: is left out of {args.m3u}, which cannot hold a line break")
    for hit in hits:
        if args.json:
            show_json(json.dumps(hit.to_record(), ensure_ascii=False))
        else:
            show(format_hit(hit))
    if not hits and not args.json:
        show("no song fits")
    return 1 if left_out else 0


def format_hit(hit: "Hit") -> str:
    """Return a hit on two lines: score and path, then caption and facts."""
    facts = ", ".join(f"{name.partition(':')[2]} {100 * value:.0f} %" for name, value in hit.facts.items())
    caption = " ".join((hit.caption or "").split())
    return "\n".join([f"{hit.score:.3f}  {escape(hit.path)}", *([f"       {caption}"] if caption else []),
                      *([f"       {facts}"] if facts else [])])  # fmt: skip
