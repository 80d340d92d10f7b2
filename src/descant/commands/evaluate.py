"""`descant evaluate`: a model on the split of a dataset, scored under a protocol, or on multiple-choice questions."""

import argparse
import hashlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descant.program import MOST_BEAMS, count, require_writable, say, show, silence_transformers, use_all_cores

if TYPE_CHECKING:
    from descant.evaluation.evaluate import EvaluationSettings

# Options that do something for rows of a data set, multiple-choice questions, endpoints, and models here alone.
FOR_ROWS = ("protocol", "split", "dataset_config", "features", "bertscore", "batch_size", "everything")
FOR_CHOICES = ("rotations", "options_by")
FOR_ENDPOINTS = ("api_key_env", "parallel", "price_in", "price_out")
FOR_MODELS = ("num_beams", "everything", "features", "batch_size", "allow_leak")  # on this machine
CONFIGS = {"lp_musiccaps": "captions", "musilingo": "all"}
EXAMPLES = """\
examples:
  descant evaluate outputs/mi_short_long-demo --dataset demo --protocol musilingo --controls
  descant evaluate MODEL --dataset USER/musiccaps --features features --protocol lp_musiccaps
  descant evaluate --benchmark muchomusic --controls
  descant evaluate MODEL --benchmark questions.json --audio_dir sounds
  descant evaluate --endpoint https://api.openai.com/v1 --model gpt-audio --benchmark muchomusic
  descant evaluate --endpoint http://127.0.0.1:8000/v1 --model box --dataset demo --protocol musilingo --controls
  accelerate launch --num_processes 4 -m descant.cli evaluate MODEL --dataset DATA --protocol musilingo

Writes answers.jsonl, scores.json and results.md (with published rows) into the output folder, and the results of a
data set into the card of a local model. A killed run goes on where it stopped: only missing answers are asked for.
--controls asks again with another clip's audio, noise, silence and without the question, and says which scores text
alone explains. --benchmark asks multiple-choice questions with the options in several orders; a file has records with
question, choices, answer and audio. Without MODEL, the model in the box answers. A model that was trained on clips of
the split is refused. Exit status: 0 done, 1 some clips skipped, 2 refused.
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
    parser.add_argument(
        "model", metavar="MODEL", nargs="?",
        help="a model folder, or a model's id on the Hub (default: the model in the box)",
    )  # fmt: skip
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--dataset", metavar="DATA", help="demo, a table, a folder, or a Hub id")
    asked.add_argument(
        "--benchmark", metavar="NAME|FILE",
        help="multiple-choice questions: muchomusic, mmau_music, demo, or a file in their form; or the open questions "
        "of musicinstruct, the captions of song_describer",
    )  # fmt: skip
    add_run_options(parser)
    add_choice_options(parser)
    add_endpoint_options(parser)
    needy = (*FOR_ROWS, *FOR_CHOICES, *FOR_ENDPOINTS, *FOR_MODELS)
    parser.set_defaults(func=run, unset={name: parser.get_default(name) for name in needy})


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what is asked, how it is scored, and where the results go."""
    parser.add_argument("--protocol", choices=list(CONFIGS), help="which scores; --dataset needs it")
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
        "--everything", action="store_true",
        help="leave long answers as the model words them, with what it is not sure of",
    )  # fmt: skip
    parser.add_argument(
        "--num_beams", type=count(1, MOST_BEAMS), metavar="N", help="search width (default: the model's own)"
    )
    parser.add_argument(
        "--batch_size", type=count(1), default=32, metavar="N", help="questions at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--max_clips", type=count(1), default=0, metavar="N", help="only the first N clips of the split"
    )


def add_choice_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of multiple-choice questions."""
    parser.add_argument(
        "--rotations", type=count(1, 26), default=4, metavar="N",
        help="orders in which the options of a benchmark's item are shown, at most (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--options_by", choices=("probability", "words"),
        help="how an option is chosen: the likeliest (default where a model here gives probabilities; of endpoints, "
        "descant's own server does), or the letter in an answer (default elsewhere)",
    )  # fmt: skip


def add_endpoint_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a model behind an OpenAI-compatible endpoint."""
    group = parser.add_argument_group("a model behind an OpenAI-compatible endpoint")
    group.add_argument("--endpoint", metavar="URL", help="its base, such as https://api.openai.com/v1")
    group.add_argument("--model", dest="endpoint_model", metavar="NAME", help="the model's name there")
    group.add_argument(
        "--api_key_env", metavar="NAME", default="OPENAI_API_KEY",
        help="the environment variable that holds the key, where one is needed (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--parallel", type=count(1, 64), default=4, metavar="N", help="clips asked about at a time (default: 4)"
    )
    group.add_argument("--price_in", type=price, metavar="X", help="price of a million tokens that are sent")
    group.add_argument("--price_out", type=price, metavar="X", help="price of a million tokens that are answered")


def price(text: str) -> float:
    """Read a price; raises ArgumentTypeError for what is none."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no price of 0 or more")
    return value


def run(args: argparse.Namespace) -> int:
    """Evaluate a model, and return the exit status; raises ValueError for what cannot be asked."""
    from descant.answering.model_folder import choose_model

    if args.dataset is not None and args.protocol is None:
        raise ValueError("--dataset needs a --protocol, lp_musiccaps or musilingo")
    if (args.endpoint is None) != (args.endpoint_model is None):
        raise ValueError("--endpoint and --model go together: the server's URL, and the model's name there")
    if args.endpoint is not None and args.model is not None:
        raise ValueError("--endpoint and --model stand in the place of a MODEL of this machine: leave that out")
    if args.endpoint is None:
        require_unset(args, FOR_ENDPOINTS, "without --endpoint")
    else:
        require_unset(args, FOR_MODELS, "with --endpoint")
    args.model = args.endpoint_model or choose_model(args.model)
    if args.benchmark is not None:
        from descant.evaluation.caption_sets import find_caption_set

        if found := find_caption_set(args.benchmark):
            return run_caption_set(args, found)
        require_unset(args, FOR_ROWS, "for multiple-choice questions")
        return run_benchmark(args)
    require_unset(args, FOR_CHOICES, "without multiple-choice questions")
    return run_dataset(args)


def require_unset(args: argparse.Namespace, names: Sequence[str], when: str) -> None:
    """Raise ValueError where one of these options is given, which does nothing then."""
    for name in names:
        if getattr(args, name) != args.unset[name]:
            raise ValueError(f"--{name} does nothing {when}: leave it out")


def run_caption_set(args: argparse.Namespace, name: str) -> int:
    """Evaluate on a published set of captions or open questions, and return the exit status."""
    from descant.evaluation.caption_sets import PROTOCOLS, write_caption_set

    place = "-".join((name_place(args.model), name_place(args.benchmark)))
    args.output_dir = args.output_dir or Path("outputs") / "evaluation" / place
    require_writable(args.output_dir)
    args.dataset = str(write_caption_set(name, args.benchmark, args.output_dir, args.audio_dir))
    args.audio_dir = None if name == "song_describer" else args.audio_dir  # whose table names its sounds
    args.protocol = args.protocol or PROTOCOLS[name]
    return run_dataset(args)


def run_benchmark(args: argparse.Namespace) -> int:
    """Ask multiple-choice questions, and return the exit status."""
    from descant.evaluation.benchmark_run import (
        BenchmarkSettings,
        check_training,
        load_chooser,
        open_benchmark,
        run_benchmark,
    )
    from descant.evaluation.choice_scores import render_choices
    from descant.evaluation.choosing import Chooser
    from descant.evaluation.endpoint import Endpoint, EndpointChooser, read_key

    prepare_program()
    folder = Path("outputs") / "evaluation" / "-".join((name_place(args.model), name_place(args.benchmark)))
    settings = BenchmarkSettings(
        args.benchmark, args.output_dir or folder, args.audio_dir, args.controls, args.rotations, args.max_clips,
        args.options_by == "words",
    )  # fmt: skip
    require_writable(settings.output_dir)
    benchmark = open_benchmark(settings)
    if args.endpoint is None:
        leak = check_training(args.model, benchmark.items, args.allow_leak)
        chooser: Chooser = load_chooser(args.model, settings, args.num_beams)
        result = run_benchmark(chooser, benchmark, settings, leak=leak)
    else:
        endpoint = Endpoint(args.endpoint, args.model, read_key(args.api_key_env))
        chooser = EndpointChooser(endpoint, args.options_by != "probability", args.parallel)
        result = run_benchmark(
            chooser, benchmark, settings, lambda: endpoint.usage.to_record(args.price_in, args.price_out)
        )
    show(render_choices(result))
    say(f"descant evaluate: answers.jsonl, scores.json and results.md lie in {settings.output_dir}")
    return 1 if result["skipped"] or result["bad_records"] else 0


def prepare_program() -> None:
    """Let descant's log speak, transformers' be silent, and use the machine's cores."""
    logging.getLogger("descant").setLevel(logging.INFO)
    silence_transformers()
    use_all_cores()


def run_dataset(args: argparse.Namespace) -> int:
    """Evaluate a model on a split, and return the exit status."""
    from descant.evaluation.evaluate import evaluate
    from descant.evaluation.report import render_report
    from descant.publish.card import update_card

    prepare_program()
    settings = read_settings(args)
    require_writable(settings.output_dir)
    result = ask_endpoint(args, settings) if args.endpoint is not None else evaluate(settings)
    if result is None:  # another process reports
        return 0
    show(render_report(result))
    say(f"descant evaluate: answers.jsonl, scores.json and results.md lie in {settings.output_dir}")
    if args.endpoint is None and Path(args.model).is_dir():
        try:
            update_card(Path(args.model), result)
        except (ValueError, OSError) as error:
            say(f"descant evaluate: the card of {args.model} does not state these scores: {error}")
    return 1 if result["skipped"] or result["bad_records"] else 0


def ask_endpoint(args: argparse.Namespace, settings: "EvaluationSettings") -> dict[str, Any]:
    """Ask an endpoint the questions of a split, and return the scores."""
    from descant.evaluation.endpoint import Endpoint, read_key
    from descant.evaluation.endpoint_dataset import evaluate_endpoint

    endpoint = Endpoint(args.endpoint, args.model, read_key(args.api_key_env))
    return evaluate_endpoint(endpoint, settings, args.parallel, (args.price_in, args.price_out))


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
        num_beams=args.num_beams, batch_size=args.batch_size, max_clips=args.max_clips, everything=args.everything,
    )  # fmt: skip
