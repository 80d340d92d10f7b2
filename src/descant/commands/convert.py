"""`descant convert`: a checkpoint of the reference to a folder that from_pretrained loads."""

import argparse
import sys
from pathlib import Path

EXAMPLE = """\
example:
  descant convert transfer.pth --bart facebook/bart-base --output lp_music_caps_transfer

Every weight in the checkpoint is used or refused by name. Exit status: 0 converted, 2 refused.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "convert",
        help="turn a checkpoint of the reference into a model folder",
        description="Turn a published or own checkpoint of the reference into a folder that from_pretrained loads.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT.pth", type=Path, help="what the reference's training saved")
    parser.add_argument(
        "--bart", required=True, metavar="DIR_OR_HUB_ID", help="the BART inside it: sizes and tokenizer come from here"
    )
    parser.add_argument("--output", required=True, metavar="DIR", type=Path, help="the folder to write")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Converts, and returns the exit status."""
    import transformers

    from descant.models.lp_music_caps.convert_lp_music_caps_to_hf import ConversionError, convert_checkpoint

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model = convert_checkpoint(args.checkpoint, args.bart, args.output)
    except (ConversionError, OSError) as error:
        print(f"descant convert: {error}", file=sys.stderr)
        return 2
    print(f"{args.output}: {model.num_parameters() / 1e6:.1f} M weights from {args.checkpoint}")
    return 0
