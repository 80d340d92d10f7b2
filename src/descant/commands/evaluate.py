"""`descant evaluate`: a model on the split of a dataset, scored under a named protocol."""

import argparse
import hashlib
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from descant.program import MOST_BEAMS, count, require_writable, say, show, use_all_cores

if TYPE_CHECKING:
    from descant.evaluation.evaluate import EvaluationSettings

CONFIGS = {"lp_musiccaps": "captions", "musilingo": "all"}
EXAMPLES = """\
examples:
  descant evaluate outputs/mi_short_long-demo --dataset demo --protocol musilingo --controls
  descant evaluate MODEL --dataset USER/musiccaps --features features --protocol lp_musiccaps
  accelerate launch --num_processes 4 -m descant.cli evaluate MODEL --dataset DATA --protocol musilingo

Writes answers.jsonl, scores.json and results.md (with the published rows) into the output folder, and the results into
the card of a local model. A killed run goes on where it stopped: only missing answers are asked for.
--controls asks again with another clip's audio, noise, silence and without the question, and says which scores text
alone explains. A model that was trained on clips of the split is refused. Exit status: 0 done, 1 some clips skipped,
2 refused.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="answer and score the split of a dataset",
        description="Answer the questions of a split, score the answers, and check whether the model listens.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a model folder, or a model's id on the Hub")
    parser.add_argument(
        "--dataset", metavar="DATA", required=True, help="demo, a table, a folder, or a Hub id"
    )
    parser.add_argument("--protocol", required=True, choices=list(CONFIGS), help="which scores")
    parser.add_argument("--split", metavar="NAME", default="test", help="which split (default: %(default)s)")
    parser.add_argument(
        "--dataset_config", choices=["short", "long", "all", "captions"],
        help="which rows (default: captions for lp_musiccaps, all for musilingo)",
    )  # fmt: skip
    parser.add_argument(
        "--features", metavar="FOLDER", default="features", help="feature store (default: %(default)s)"
    )
    parser.add_argument("--audio_dir", metavar="DIR", help="folder of the clips' audio files")
    parser.add_argument(
        "--output_dir", metavar="DIR", type=Path, help="default: outputs/evaluation/MODEL-DATASET-SPLIT"
    )
    parser.add_argument("--controls", action="store_true", help="answer again without the right audio")
    parser.add_argument("--allow_leak", action="store_true", help="score clips that the model was trained on")
    parser.add_argument("--bertscore", metavar="ENCODER", help="an encoder's folder or Hub id: adds BERTScore")
    parser.add_argument(
        "--num_beams", type=count(1, MOST_BEAMS), metavar="N", help="search width (default: the model's own)"
    )
    parser.add_argument(
        "--batch_size", type=count(1), default=32, metavar="N", help="questions at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--max_clips", type=count(1), default=0, metavar="N", help="only the first N clips of the split"
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate a model, and return the exit status."""
    import transformers

    from descant.evaluation.evaluate import evaluate
    from descant.evaluation.report import render_report
    from descant.publish.card import update_card

    logging.getLogger("descant").setLevel(logging.INFO)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    use_all_cores()
    settings = read_settings(args)
    require_writable(settings.output_dir)
    result = evaluate(settings)
    if result is None:  # another process reports
        return 0
    show(render_report(result))
    say(f"descant evaluate: answers.jsonl, scores.json and results.md lie in {settings.output_dir}")
    if Path(args.model).is_dir():
        try:
            update_card(Path(args.model), result)
        except (ValueError, OSError) as error:
            say(f"descant evaluate: the card of {args.model} does not state these scores: {error}")
    return 1 if result["skipped"] or result["bad_records"] else 0


def name_place(source: str) -> str:
    """Return a Hub id as one word; of a file or folder its name, with a hash of where it lies."""
    path = Path(source)
    if not path.exists():
        return re.sub(r"[^\w.-]+", "--", source)
    name, whole = path.resolve().name, str(path.resolve()).encode("utf-8", "surrogateescape")
    return re.sub(r"[^\w.-]+", "_", name) + "-" + hashlib.sha256(whole).hexdigest()[:8]


def read_settings(args: argparse.Namespace) -> "EvaluationSettings":
    """Read the settings of the evaluation."""
    from descant.evaluation.evaluate import EvaluationSettings

    config = args.dataset_config or CONFIGS[args.protocol]
    place = "-".join((name_place(args.model), name_place(args.dataset), config, args.split))
    return EvaluationSettings(
        model=args.model, dataset=args.dataset, split=args.split, protocol=args.protocol, config=config,
        output_dir=args.output_dir or Path("outputs") / "evaluation" / place, features=args.features,
        audio_dir=args.audio_dir, controls=args.controls, allow_leak=args.allow_leak, bertscore=args.bertscore,
        num_beams=args.num_beams, batch_size=args.batch_size, max_clips=args.max_clips,
    )  # fmt: skip
