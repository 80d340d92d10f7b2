"""`descant push`: a model folder to the Hub, with its code and a card filled with facts."""

import argparse
from pathlib import Path

from descant.program import show

EXAMPLES = """\
examples:
  descant push outputs/mi_all you/music-answers
  descant push outputs/mi_all you/music-answers --private --license cc-by-nc-sa-4.0

The repository gets the weights, the processor, the model's own code and a card made from the records in the folder
(training_data.json, training_facts.json, scores.json); a README.md of your own is kept. The licence follows the
training data: where some of it is non-commercial or share-alike, a freer licence is refused. Everything arrives in one
commit. Log in with `hf auth login` or set HF_TOKEN. Exit status: 0 pushed, 2 refused.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "push",
        help="publish a model folder on the Hub",
        description="Publish a model or adapter folder on the Hugging Face Hub, in one commit.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder", metavar="FOLDER", type=Path, help="what a recipe, `convert` or save_pretrained wrote"
    )
    parser.add_argument("id", metavar="ID", help="the repository, name/model; it is made where there is none")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument(
        "--license", dest="licence", metavar="ID", help="of the model; by default the data's strictest"
    )
    parser.add_argument("--base_model", metavar="HUB_ID", help="of an adapter, where the folder names a local path")
    parser.add_argument("--message", metavar="TEXT", help="of the commit")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Push, and return the exit status."""
    from descant.publish.hub import publish_folder

    url = publish_folder(
        args.folder, args.id, private=args.private, licence=args.licence, base_model=args.base_model,
        message=args.message,
    )  # fmt: skip
    show(url)
    return 0
