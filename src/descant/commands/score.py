"""`descant score`: predictions against references under a named protocol."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descant.program import say, show, show_json

if TYPE_CHECKING:
    from descant.data.tables import Problem
    from descant.evaluation.claims import Tags
    from descant.evaluation.predictions_file import Item, Texts

EXAMPLES = """\
examples:
  descant score outputs/demo/answers.jsonl --protocol musilingo
  descant score inference.json --protocol lp_musiccaps --train_references musiccaps-public.csv --json

FILE is a .jsonl file, or a .json file with a list or an object of records; each has `prediction` (or `predictions`)
and `references` (or `reference`, `ground_truth`, `true_captions`). Scores of different protocols do not compare.
METEOR needs WordNet (python -m nltk.downloader wordnet, or Debian's wordnet-base); without it the score is called
meteor_no_wordnet. CIDEr-D and SPICE are left out: the one library that has them (pycocoevalcap) needs Java and is no
longer maintained. Exit status: 0 all scored, 1 some records skipped, 2 refused.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "score",
        help="score predictions against references",
        description="Score predictions against references, with 95 % intervals by clip.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="predictions with their references")
    parser.add_argument("--protocol", required=True, choices=["lp_musiccaps", "musilingo"], help="which scores")
    parser.add_argument("--train_references", metavar="FILE", type=Path, help="training texts: adds novelty")
    parser.add_argument("--bertscore", metavar="ENCODER", help="an encoder's folder or Hub id: adds BERTScore")
    parser.add_argument(
        "--tags", metavar="FILE", type=Path, help="a table with `aspect_list`: adds claims against tags"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Score a file, and return the exit status."""
    from descant.evaluation.predictions_file import read_items

    found = read_items(args.file)
    report(found.problems)
    if not found.items:
        raise ValueError(f"{args.file}: holds nothing that can be scored")
    known, tags = read_beside(args)
    problems = [*(known.problems if known else []), *(tags.problems if tags else [])]
    report(problems)
    result = score_items(found.items, args, known.texts if known else None)
    result |= score_claims(found.items, tags, args.tags) if tags else {}
    result["skipped"] = len(found.problems)
    if args.json:
        show_json(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        show(format_scores(result))
    return 1 if found.problems or problems else 0


def report(problems: "list[Problem]") -> None:
    """Name each record that was left out on stderr."""
    for problem in problems:
        say(f"descant score: {problem}")


def read_beside(args: argparse.Namespace) -> "tuple[Texts | None, Tags | None]":
    """Read the training texts and the tags, where they are given."""
    from descant.evaluation.claims import read_tags
    from descant.evaluation.predictions_file import read_train_references

    known = read_train_references(args.train_references) if args.train_references else None
    return known, read_tags(args.tags) if args.tags else None


def score_items(items: "list[Item]", args: argparse.Namespace, known: list[str] | None) -> dict[str, Any]:
    """Return every score by name, with `n`, `protocol`, `intervals` and what the scores were made with."""
    from descant.evaluation.scoring import describe_parts, intervals, item_measures

    measures = item_measures(items, args.protocol, train_references=known, bertscore=args.bertscore)
    bounds = intervals(measures, [item.clip for item in items])
    result = {measure.name: measure.value() for measure in measures} | {"n": len(items), "protocol": args.protocol}
    return result | {"intervals": bounds, "made_with": describe_parts()}


def score_claims(items: "list[Item]", tags: "Tags", file: Path) -> dict[str, Any]:
    """Measure the claims of the items whose tags are known: precision, recall, the commonest disagreements."""
    from descant.evaluation.claims import claim_measures, list_disagreements, tags_of
    from descant.evaluation.scoring import intervals

    tagged = [(item, known) for item in items if (known := tags_of(item, tags.by_name)) is not None]
    if not tagged:
        raise ValueError(f"{file}: has tags for none of the {len(items)} clips")
    texts, words = [item.prediction for item, _ in tagged], [known for _, known in tagged]
    measures, disagreements = claim_measures(texts, words), list_disagreements(texts, words)
    claims: dict[str, Any] = {measure.name: measure.value() for measure in measures} | {"n": len(tagged)}
    claims["intervals"] = intervals(measures, [item.clip for item, _ in tagged])
    return {"claims": claims | {name: dict(count.most_common(10)) for name, count in disagreements.items()}}


def format_scores(result: dict[str, Any]) -> str:
    """Return the scores as lines of text."""
    lines = [f"{result['protocol']}, {result['n']} predictions, {result['skipped']} skipped"]
    for scores in (result, result.get("claims", {})):
        for name, (low, high) in scores.get("intervals", {}).items():
            lines.append(f"  {name:<22} {scores[name]:10.4f}   [{low:.4f}, {high:.4f}]")
        for name in ("invented", "missed"):
            if name in scores:
                lines.append(f"  most often {name}: " + ", ".join(f"{term} {n}" for term, n in scores[name].items()))
    return "\n".join(
        [*lines, "made with " + ", ".join(f"{part} {text}" for part, text in result["made_with"].items())]
    )
