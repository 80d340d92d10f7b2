"""The command line: `descant COMMAND …`."""

import atexit
import logging
import os
import sys
from collections.abc import Sequence

from descant.program import ArgumentParser, Ending, run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; a wrong command line ends the program with 2."""
    with Ending("descant", goes_on="", level=logging.WARNING):
        parser = build_parser()
        args = parser.parse_args(argv)
        if args.command is None:
            parser.error("give a command: descant --help lists them")
    return run_program(f"descant {args.command}", lambda: args.func(args), args.goes_on, logging.WARNING)


def build_parser() -> ArgumentParser:
    """Return the parser with all commands."""
    import descant
    from descant.commands import (
        app,
        ask,
        classify,
        compare,
        convert,
        decide,
        describe,
        download,
        evaluate,
        export,
        features,
        index,
        push,
        report,
        score,
        search,
        serve,
        skill,
        space,
        tag,
    )

    parser = ArgumentParser(prog="descant", description=(descant.__doc__ or "").split("\n")[0])
    parser.add_argument("--version", action="version", version=f"descant {descant.__version__}")
    parser.set_defaults(goes_on="")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    asking = (ask, decide, describe, serve, app, tag, index, search, report, classify)
    for command in (download, features, *asking, convert, export, evaluate, score, compare, push, space, skill):
        command.add_parser(subparsers)
    return parser


def start() -> None:
    """Run one command as a program of its own, and end with its exit status.

    Once all that was registered for the end has run, the process is gone: taking the modules of torch and transformers
    apart would change nothing, and let the user wait for another fifth of a second.
    """
    ended: list[int] = []

    def leave() -> None:
        if ended:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(ended[0])

    atexit.register(leave)  # before all others, so that it runs after them
    ended.append(main())
    sys.exit(ended[0])


if __name__ == "__main__":
    start()
