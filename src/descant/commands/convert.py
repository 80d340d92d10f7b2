"""`descant convert`: a published checkpoint to a folder that from_pretrained loads."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from descant.program import show, silence_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EXAMPLE = """\
examples:
  descant convert transfer.pth --bart facebook/bart-base --output lp_music_caps_transfer
  descant convert projector.pt --audio_encoder m-a-p/MERT-v1-95M \\
      --text_model HuggingFaceTB/SmolLM2-135M-Instruct --output mert_lm
  descant convert musicnn-0.1.0-py3-none-any.whl --output musicnn

An LP-MusicCaps checkpoint needs --bart; a projector of the MERT and SmolLM2 fork, the two parts that it joins; the
wheel of musicnn (pip download --no-deps musicnn==0.1.0) or its unpacked folder, neither. Each weight in the checkpoint
is used or refused by name. Exit status: 0 converted, 2 refused.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "convert",
        help="turn a published checkpoint into a model folder",
        description="Turn a checkpoint of the reference, or musicnn's, into a folder that from_pretrained loads.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", type=Path, help="a checkpoint of the reference, or musicnn's wheel"
    )
    parser.add_argument(
        "--bart", metavar="DIR_OR_HUB_ID", help="the BART that it holds, for sizes and tokenizer"
    )
    parser.add_argument("--audio_encoder", metavar="DIR_OR_HUB_ID", help="the encoder that a projector was trained on")
    parser.add_argument("--text_model", metavar="DIR_OR_HUB_ID", help="the language model of that projector")
    parser.add_argument("--layer_mix", choices=("last", "mean"), help="encoder states of a projector (default: last)")
    parser.add_argument(
        "--pooling", choices=("none", "stride", "mean"), help="of a projector, over frames (default: none)"
    )
    parser.add_argument("--output", required=True, metavar="DIR", type=Path, help="the folder to write")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Convert a checkpoint, and return the exit status."""
    silence_transformers()
    model = _convert(args)
    show(f"Model saved to {args.output}: {model.num_parameters() / 1e6:.1f} M weights from {args.checkpoint}")
    return 0


def _convert(args: argparse.Namespace) -> "PreTrainedModel":
    from descant.hub_client import load_patiently, patiently
    from descant.models.lp_music_caps import convert_lp_music_caps_to_hf
    from descant.models.mert_lm import parts_mert_lm
    from descant.models.musicnn import convert_musicnn_to_hf

    parts = (args.audio_encoder, args.text_model)
    idle = [name for name in ("layer_mix", "pooling") if getattr(args, name) and not any(parts)]
    if idle:
        raise ValueError(f"--{idle[0]} does nothing without --audio_encoder and --text_model: leave it out")
    if not (args.bart or any(parts)) and (args.checkpoint.suffix == ".whl" or args.checkpoint.is_dir()):
        return convert_musicnn_to_hf.convert_checkpoint(args.checkpoint, args.output)
    if args.bart and not any(parts):
        convert = convert_lp_music_caps_to_hf.convert_checkpoint
        return patiently(partial(convert, args.checkpoint, args.bart, args.output), args.bart)
    if args.bart or not all(parts):
        raise ValueError("give either --bart, or --audio_encoder and --text_model, or a wheel of musicnn alone")
    joined = {"layer_mix": args.layer_mix or "last", "pooling": args.pooling or "none"}
    join = partial(parts_mert_lm.convert_checkpoint, args.checkpoint, *parts, args.output, **joined)
    return load_patiently(join, *parts)
