"""`descant space`: the page of `descant app` as a Space on the Hub."""

import argparse
from pathlib import Path

from descant.program import show

EXAMPLES = """\
examples:
  descant space you/listens you/music-answers
  descant space you/listens --private
  descant space you/listens you/music-answers --output space

The Space holds three files: app.py, requirements.txt, and README.md with its settings. It is open to everybody whom
the Hub lets in, with the limits of `descant app`. MODEL is an id on the Hub (default: the model in the box, which
comes with descant). Log in with `hf auth login` or set HF_TOKEN. Exit status: 0 written or pushed, 2 refused.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "space",
        help="put the page that listens on the Hub",
        description="Publish the page of `descant app` as a Space on the Hugging Face Hub.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("id", metavar="ID", help="the Space, name/space; it is made where there is none")
    parser.add_argument("model", metavar="MODEL", nargs="?", help="an id on the Hub (default: the model in the box)")
    parser.add_argument("--output", metavar="FOLDER", type=Path, help="write the files here, and push nothing")
    parser.add_argument("--private", action="store_true", help="make a new Space private")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Write or push the Space, and return the exit status."""
    from descant.doors.space import push_space, write_space
    from descant.models import box

    model = args.model or box.NAME
    if args.output:
        if args.private:
            raise ValueError("--private is of a Space that is pushed: leave --output out")
        write_space(args.output, args.id, model)
        show(f"{args.output}: python {args.output / 'app.py'} shows it here, at port 7860")
    else:
        show(push_space(args.id, model, args.private))
    return 0
