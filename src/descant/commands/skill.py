"""`descant skill`: where the page lies that tells a coding agent how to use descant."""

import argparse
from pathlib import Path

import descant
from descant.program import show

SKILL = Path(descant.__file__).parent / "SKILL.md"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "skill",
        help="print where the page for coding agents lies",
        description="Print the path of SKILL.md, which tells a coding agent how to use descant.",
    )
    parser.add_argument("--text", action="store_true", help="print the page itself")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the path, or the page, and return the exit status."""
    show(SKILL.read_text(encoding="utf-8").rstrip() if args.text else str(SKILL))
    return 0
