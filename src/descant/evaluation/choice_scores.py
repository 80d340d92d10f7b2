"""Scores of multiple-choice answers: accuracy with intervals by clip, refusals, the effect of the options' order."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from descant.evaluation.benchmarks import Benchmark, ChoiceItem
from descant.evaluation.choosing import Answered, read_answered
from descant.evaluation.measures import Difference, Measure, compare, mean_of, table_lines
from descant.evaluation.report import render_cost, render_leak
from descant.files import JsonLines
from descant.program import name_error

REFUSED = None  # what a refused answer chose

Turns = list[Answered]  # the answers to one item, by rotation


def by_item(answered: Sequence[Answered]) -> dict[ChoiceItem, Turns]:
    """Return the answers by item, those items left out of which an answer is missing (an error)."""
    turns: defaultdict[ChoiceItem, Turns] = defaultdict(list)
    for one in answered:
        turns[one.item].append(one)
    return {item: found for item, found in turns.items() if all(one.choice.error is None for one in found)}


def choice_measures(turns: Sequence[Turns]) -> list[Measure]:
    """Measure accuracy (a refused answer is wrong), the share of refused answers, and that of changed choices.

    accuracy: the mean over the orders of an item's options. first_order: that of the published order alone.
    changed: items whose choice is not the same in all orders.
    """
    rights = [sum(one.right for one in found) / len(found) for found in turns]
    refused = [sum(one.choice.chosen is REFUSED for one in found) / len(found) for found in turns]
    measures: list[Measure] = [
        mean_of("accuracy", rights),
        mean_of("first_order", [float(found[0].right) for found in turns]),
        mean_of("refused", refused),
    ]
    if any(len(found) > 1 for found in turns):
        measures.append(mean_of("changed", [float(changes(found)) for found in turns]))
    return measures


def changes(turns: Turns) -> bool:
    """Return whether an item's choice depends on the order of its options."""
    return len({one.choice.chosen for one in turns}) > 1


def score_choices(benchmark: Benchmark, answered: Mapping[str, Sequence[Answered]], model: str) -> dict[str, Any]:
    """Return what scores.json holds.

    answered: by condition, `own` among them. Controls are asked in the published order, and compared with the same.

    Raises:
        ValueError: no question was answered.
    """
    own = by_item(answered["own"])
    failed = [one for one in answered["own"] if one.choice.error is not None]
    if not own:
        reason = f": {failed[0].item.id}: {failed[0].choice.error}" if failed else ""
        raise ValueError(f"none of the {len(benchmark.items)} questions was answered{reason}")
    turns, clips = list(own.values()), [item.clip for item in own]
    measures = choice_measures(turns)
    refused, answers = sum(one.choice.chosen is REFUSED for found in turns for one in found), sum(map(len, turns))
    return {
        "model": model, "benchmark": benchmark.name, "n": len(own), "clips": len(set(clips)),
        "skipped": len(benchmark.items) - len(own), "bad_records": len(benchmark.problems),
        "answers": answers, "refused_answers": refused,
        **{measure.name: measure.value() for measure in measures},
        "accuracy_answered": sum(one.right for found in turns for one in found) / max(answers - refused, 1),
        "chance": sum(1 / len(item.options) for item in own) / len(own),
        "intervals": {measure.name: measure.interval(clips) for measure in measures},
        "rotations": score_rotations(turns), "topics": score_topics(own),
        "controls": {name: compare_control(own, found) for name, found in answered.items() if name != "own"},
        "published": [asdict(benchmark.published)] if benchmark.published else [],
    }  # fmt: skip


def score_rotations(turns: Sequence[Turns]) -> list[dict[str, float]]:
    """Return accuracy and refusals with the options rotated by 0, 1, …; items with fewer options begin anew."""
    scores = []
    for rotation in range(max(map(len, turns))):
        found = [one[rotation % len(one)] for one in turns]
        right = sum(one.right for one in found) / len(found)
        refused = sum(one.choice.chosen is REFUSED for one in found) / len(found)
        scores.append({"rotation": rotation, "accuracy": right, "refused": refused})
    return scores


def score_topics(own: Mapping[ChoiceItem, Turns]) -> dict[str, dict[str, float]]:
    """Return accuracy, refusals and the number of items by topic, where the benchmark names topics."""
    topics: defaultdict[str, list[Turns]] = defaultdict(list)
    for item, turns in own.items():
        topics[item.topic].append(turns)
    if set(topics) == {""}:
        return {}
    return {
        topic: {"n": len(found), **{one.name: one.value() for one in choice_measures(found)}}
        for topic, found in sorted(topics.items())
    }


def compare_control(own: Mapping[ChoiceItem, Turns], control: Sequence[Answered]) -> dict[str, Any]:
    """Return a control's accuracy in the published order, the gap to the model's own, its interval and p-value.

    Only items that both conditions have count.
    """
    heard = by_item(control)
    common = [item for item in own if item in heard]
    if not common:
        return {"n": 0}
    rights = [[float(turns[item][0].right) for item in common] for turns in (heard, own)]
    refused = sum(heard[item][0].choice.chosen is REFUSED for item in common)
    first, second = ([mean_of("accuracy", values)] for values in rights)
    (gap,) = compare(first, second, [item.clip for item in common])
    return {
        "n": len(common), "accuracy": gap.first, "own": gap.second, "gap": gap.gap, "interval": gap.interval,
        "p": gap.p, "refused": refused / len(common),
    }  # fmt: skip


# Two runs


@dataclass(frozen=True)
class ChoiceRun:
    """The answers of one run by item, whatever path its sound has, and each line that is none."""

    turns: dict[tuple[str, str, str], Turns]
    problems: list[str]


def is_choice_file(path: Path) -> bool:
    """Return whether a file's first record is an answer to a multiple-choice question."""
    first = next(JsonLines(path).read(), None) if path.is_file() else None  # nothing waits for a pipe here
    return first is not None and {"chosen", "options", "rotation"} <= first.keys()


def read_choices(path: Path) -> ChoiceRun:
    """Read answers.jsonl of a benchmark; items of which an answer is missing are left out, and named.

    Raises:
        ValueError: a line is no JSON object.
    """
    answered, problems = [], []
    for number, record in enumerate(JsonLines(path).read(whole=True), start=1):
        try:
            answered.append(read_answered(record))
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            problems.append(f"{path}: record {number} is no answer to a multiple-choice question: {name_error(error)}")
    failed = {one.item: one.choice.error for one in answered if one.choice.error is not None}
    problems += [f"{path}: {item.id}: was not answered: {error}" for item, error in failed.items()]
    whole = by_item(answered)
    return ChoiceRun({(item.id, item.clip, item.question): turns for item, turns in whole.items()}, problems)


def compare_choices(first: ChoiceRun, second: ChoiceRun) -> tuple[list[Difference], int]:
    """Compare two runs by the items that both answered, in the orders of options that both were asked in.

    Returns the differences and the number of items.

    Raises:
        ValueError: there is none, or one of them has other options.
    """
    pairs, clips = [], []
    for key, one in first.turns.items():
        other = second.turns.get(key)
        if other is None:
            continue
        if (one[0].item.options, one[0].item.right) != (other[0].item.options, other[0].item.right):
            raise ValueError(f"{one[0].item.id}: the two files give different options, so they cannot be compared")
        shared = {turn.rotation for turn in one} & {turn.rotation for turn in other}
        pair = [[turn for turn in turns if turn.rotation in shared] for turns in (one, other)]
        if shared:
            pairs.append(pair)
            clips.append(one[0].item.clip)
    if not pairs:
        raise ValueError("the two files have no answered question in common")
    ours, theirs = (choice_measures(turns) for turns in zip(*pairs, strict=True))
    return compare(ours, theirs, clips), len(pairs)


# The report


def render_choices(result: Mapping[str, Any]) -> str:
    """Return the whole report in Markdown."""
    head = f"{result['n']} questions about {result['clips']} clips, {result['skipped']} skipped"
    head += f", {result['bad_records']} bad records in the benchmark" if result["bad_records"] else ""
    parts = [
        f"# {result['model']} on {result['benchmark']}", f"{head}; 95 % intervals by clip.", render_accuracy(result),
        render_refusals(result), *([render_leak(result["leak"])] if "leak" in result else []),
        "## The order of the options", render_order(result),
    ]  # fmt: skip
    if result["controls"]:
        parts += ["## Does it listen?", render_gaps(result)]
    if result["topics"]:
        rows = [[name, str(one["n"]), f"{one['accuracy']:.3f}", f"{one['refused']:.3f}"]
                for name, one in result["topics"].items()]  # fmt: skip
        parts += ["## By kind of question", "\n".join(table_lines(["kind", "n", "accuracy", "refused"], rows))]
    if result.get("cost"):
        parts.append(render_cost(result["cost"]))
    return "\n\n".join(parts) + "\n"


def render_accuracy(result: Mapping[str, Any]) -> str:
    """Return a row for the model, one for its interval, one for chance, one for each published system."""
    low, high = result["intervals"]["accuracy"]
    rows = [
        ["this model", result["benchmark"], f"{100 * result['accuracy']:.2f}"],
        ["", "", f"{100 * low:.2f} – {100 * high:.2f}"],
        ["chance", "", f"{100 * result['chance']:.2f}"],
    ]
    for one in result["published"]:
        rows.append([one["system"], f"{one['data']} ({one['source']})", f"{one['accuracy']:.2f}"])
    note = "" if result["published"] else "\n\nNo published figure for these data was verified."
    return "\n".join(table_lines(["system", "data", "accuracy, %"], rows)) + note


def render_refusals(result: Mapping[str, Any]) -> str:
    """Say how many answers were refused: they count as wrong, and nothing is guessed in their place."""
    refused, answers = result["refused_answers"], result["answers"]
    text = f"{refused} of {answers} answers were refused (no option was chosen); they count as wrong."
    if refused < answers:
        text += f" Accuracy of the others: {result['accuracy_answered']:.3f}."
    return text


def render_order(result: Mapping[str, Any]) -> str:
    """Return accuracy for each rotation of the options, and say what the order changes."""
    rows = [[str(one["rotation"]), f"{one['accuracy']:.4f}", f"{one['refused']:.4f}"] for one in result["rotations"]]
    table = "\n".join(table_lines(["rotated by", "accuracy", "refused"], rows))
    if "changed" not in result:
        return table + "\n\nOne order was asked: nothing is known of its effect."
    low, high = result["intervals"]["changed"]
    share = f"{result['changed']:.1%} of the items [{low:.1%}, {high:.1%}]"
    return f"{table}\n\nThe choice changes with the order for {share}."


def render_gaps(result: Mapping[str, Any]) -> str:
    """Return a row for each control: its accuracy in the published order, and the gap to the model's own."""
    rows = []
    for name, one in result["controls"].items():
        if not one["n"]:
            rows.append([name, "0", "", "", "", ""])
            continue
        low, high = one["interval"]
        gap = f"{one['gap']:+.4f} [{low:.4f}, {high:.4f}]"
        rows.append([name, str(one["n"]), f"{one['accuracy']:.4f}", gap, f"{one['p']:.4f}", f"{one['refused']:.4f}"])
    return "\n".join(table_lines(["control", "n", "accuracy", "own audio above it", "p", "refused"], rows))
