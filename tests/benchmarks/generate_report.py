"""What bench_generate.py prints: figures a load, what is not about one load, and whether all tokens are the same."""

import json
import statistics

COMPARED = ("one_by_one_5", "transformers")  # the systems that must give the same tokens as descant
CLOSE = 1e-5  # the difference of two scores up to which rounding may choose between them
TOLERATED = 0.002  # the share of questions that rounding may decide


def report(result: dict) -> int:
    """Print what is not about one load, a summary of the differences, and one line of JSON for machines.

    Returns 1 if tokens differ that should not, else 0.
    """
    memory = f"peak memory {result['memory_descant_gb']:.2f} GB (descant alone, with weights)"
    print(f"{result['device']}, {result['threads']} threads; {memory}")
    for name, tier in result["tiers"].items():
        print(
            f"tier {name}: {tier['seconds']:.3f} s a question (mixed); as in fp32: "
            f"{100 * tier['same_answers']:.1f} % of the answers, {100 * tier['same_tokens']:.1f} % of the tokens"
        )
    for name, single in result["one_question"].items():
        ratios = [b / c for b, c in zip(single["transformers"], single["descant"], strict=True)]
        times = f"{statistics.median(ratios):.2f} times as fast as transformers' generate"
        print(f"one {name} question alone: {times} ({min(ratios):.2f}-{max(ratios):.2f})")
    if "cold_start" in result:
        bare, ask = (statistics.median(result["cold_start"][name]) for name in ("import", "ask"))
        print(f"cold start: descant ask {ask:.1f} s, importing torch and transformers' BART {bare:.1f} s")
    loads = [result[load] for load in ("short", "long", "mixed")]
    wrong = [not report_differences(name, loads) for name in COMPARED]
    print(json.dumps(result))
    return int(any(wrong))


def report_differences(name: str, loads: list[dict]) -> bool:
    """Print of how many questions of all loads the tokens differ, and how many of those a close race explains.

    Returns whether a close race explains all of them and they are few (one is no share yet).
    """
    compared = sum(figures[f"compared_with_{name}"] for figures in loads)
    cases = [case for figures in loads for case in figures[f"differing_from_{name}"]]
    close = sum(case["closest_race"].gap <= CLOSE for case in cases)
    share = f"{len(cases)} of {compared} questions ({100 * len(cases) / compared:.2f} %)"
    print(f"all loads: tokens differ from {name}: {share}, {close} of them after a race of {CLOSE:.0e} or closer")
    return close == len(cases) <= max(1, TOLERATED * compared)


def report_load(load: str, figures: dict) -> None:
    """Print what was found for one load of questions."""
    seconds, asked = figures["seconds"], figures["asked_length"]
    lengths = f"{figures['mean_length']:.1f} tokens an answer (asked: {asked:.1f})"
    print(f"{load}: {figures['questions']} questions, {figures['different_answers']} different answers")
    print(f"  {lengths}; batch size of (b) {figures['batch_size']}")
    for name, values in seconds.items():
        ratios = [value / own for value, own in zip(values, seconds["descant"], strict=True)]
        times = f"{statistics.median(ratios):.2f} times as fast ({min(ratios):.2f}-{max(ratios):.2f})"
        print(f"  {name:14} {statistics.median(values):7.3f} s a question; descant is {times}")
    rate, peak = figures["work_gflop"] / (seconds["descant"][0] * figures["questions"]), figures["peak_gflops"]
    print(f"  descant: {rate:.0f} GFLOP/s, {100 * rate / peak:.0f} % of torch's matrix products ({peak:.0f})")
    if "product_share" in figures:
        print(f"  descant: {100 * figures['product_share']:.0f} % of the time in matrix products and convolutions")
    for name in COMPARED:
        cases = figures[f"differing_from_{name}"]
        print(f"  tokens differ from {name}: {len(cases)} of {figures[f'compared_with_{name}']} questions")
        for case in cases:
            print(f"    {describe_difference(case)}")
    print(f"  transformers alone and in batches differ: {figures['transformers_from_itself']}")


def describe_difference(case: dict) -> str:
    gap, units, place = case["closest_race"]
    before = f"closest race up to there {gap:.1e} at token {place}, {units:.0f} units in the last place"
    ever = f"{case['closest_race_of_all'].gap:.1e} at token {case['closest_race_of_all'].place}"
    return f"question {case['question']}, token {case['first_difference']}; {before}; in the whole search {ever}"
