"""`descant compare`: two systems' answers to the same questions, in words or by options, with a paired test."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from descant.program import say, show, show_json

if TYPE_CHECKING:
    from descant.evaluation.measures import Difference
    from descant.evaluation.predictions_file import Item

EXAMPLES = """\
examples:
  descant compare outputs/a/answers.jsonl outputs/b/answers.jsonl --protocol musilingo
  descant compare outputs/evaluation/a-muchomusic outputs/evaluation/b-muchomusic

Answers are paired by clip, second and question; published files without clips, by position; those of a multiple-choice
benchmark by item, and scored as `descant evaluate --benchmark` does. Of a folder its answers.jsonl is read. The
interval of B - A comes from a paired bootstrap, p from approximate randomisation, both by clip. A table of many scores
holds small p-values by chance: decide beforehand which score counts. Exit status: 0 all paired, 1 some answers without
a partner, 2 refused.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "compare",
        help="compare two systems on the same questions",
        description="Compare two systems on the same questions, with intervals and a paired test by clip.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("first", metavar="A.jsonl", type=Path, help="the first system's answers, or its run's folder")
    parser.add_argument("second", metavar="B.jsonl", type=Path, help="the second system's answers")
    parser.add_argument(
        "--protocol", choices=["lp_musiccaps", "musilingo"],
        help="which scores of answers in words (default: lp_musiccaps); exact answers come with both",
    )  # fmt: skip
    parser.add_argument("--bertscore", metavar="ENCODER", help="an encoder's folder or Hub id: adds BERTScore")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Compare, and return the exit status."""
    from descant.evaluation.choice_scores import is_choice_file

    args.first, args.second = map(find_answers, (args.first, args.second))
    kinds = [is_choice_file(path) for path in (args.first, args.second)]
    if any(kinds):
        if not all(kinds):
            raise ValueError(f"only one of {args.first} and {args.second} holds answers to multiple-choice questions")
        return compare_benchmarks(args)
    args.protocol = args.protocol or "lp_musiccaps"
    return compare_words(args)


def find_answers(path: Path) -> Path:
    """Return the answers of a run's folder, and a file as it is."""
    return path / "answers.jsonl" if path.is_dir() else path


def compare_words(args: argparse.Namespace) -> int:
    """Compare answers in words, and return the exit status."""
    from descant.evaluation.predictions_file import pair_items, read_items

    first, second = read_items(args.first), read_items(args.second)
    pairs, single = pair_items(first.items, second.items)
    for problem in (*first.problems, *second.problems):
        say(f"descant compare: {problem}")
    if not pairs:
        raise ValueError(f"{args.first} and {args.second} have no question about the same clip in common")
    differences = compare_pairs(pairs, args)
    for item in single:
        say(f"descant compare: {item.clip}: only one file answers {item.question!r}")
    show_differences(differences, args, len(pairs))
    return 1 if single or first.problems or second.problems else 0


def compare_benchmarks(args: argparse.Namespace) -> int:
    """Compare answers to multiple-choice questions, and return the exit status."""
    from descant.evaluation.choice_scores import compare_choices, read_choices

    for name in ("protocol", "bertscore"):
        if getattr(args, name) is not None:
            raise ValueError(f"--{name} does nothing for multiple-choice questions: leave it out")
    first, second = read_choices(args.first), read_choices(args.second)
    for problem in (*first.problems, *second.problems):
        say(f"descant compare: {problem}")
    differences, n = compare_choices(first, second)
    single = first.turns.keys() ^ second.turns.keys()
    for name, _, question in sorted(single):
        say(f"descant compare: {name}: only one file answers {question!r}")
    show_differences(differences, args, n)
    return 1 if single or first.problems or second.problems else 0


def compare_pairs(pairs: "list[tuple[Item, Item]]", args: argparse.Namespace) -> "list[Difference]":
    """Score both sides and compare every score."""
    from descant.evaluation.measures import compare
    from descant.evaluation.scoring import item_measures

    first, second = (
        item_measures(items, args.protocol, bertscore=args.bertscore) for items in zip(*pairs, strict=True)
    )
    return compare(first, second, [item.clip for item, _ in pairs])


def show_differences(differences: "list[Difference]", args: argparse.Namespace, n: int) -> None:
    """Print every score as one table, or as JSON."""
    if args.json:
        show_json(as_json(differences, args, n))
    else:
        show(format_differences(differences, n))


def as_json(differences: "list[Difference]", args: argparse.Namespace, n: int) -> str:
    """Return one object with a record for each score."""
    rows = {
        d.name: {"a": d.first, "b": d.second, "difference": d.gap, "interval": d.interval, "p": d.p}
        for d in differences
    }
    return json.dumps({"protocol": args.protocol, "n": n, "scores": rows}, indent=2)


def format_differences(differences: "list[Difference]", n: int) -> str:
    """Return a line for each score."""
    lines = [f"{n} answers in both", f"  {'':<22} {'A':>10} {'B':>10} {'B - A':>10}   95 % interval        p"]
    for d in differences:
        p = "" if d.p is None else f"{d.p:.3f}"
        bounds = f"[{d.interval.low:.4f}, {d.interval.high:.4f}]"
        lines.append(f"  {d.name:<22} {d.first:10.4f} {d.second:10.4f} {d.gap:10.4f}   {bounds:<18}  {p}")
    return "\n".join(lines)
