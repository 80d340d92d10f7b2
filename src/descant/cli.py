"""The command line: `descant COMMAND …`."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

import descant
from descant.commands import ask, classify, compare, convert, download, evaluate, features, push, score

COMMANDS = (download, features, ask, classify, convert, evaluate, score, compare, push)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status is 0 all done, 1 some skipped, 2 usage or refused, 130 interrupted."""
    args = build_parser().parse_args(argv)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be text
    try:
        return args.func(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return 1


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="descant", description=descant.__doc__)
    parser.add_argument("--version", action="version", version=f"descant {descant.__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(main())
