"""How fast questions are answered: the reference's loop, transformers' generate and descant, side by side.

    python tests/benchmarks/train_generate_model.py --output ~/.cache/descant/bench_generate   # once, 15 minutes
    python tests/benchmarks/bench_generate.py --model ~/.cache/descant/bench_generate          # half an hour
    python tests/benchmarks/bench_generate.py --quick                                          # a tiny model, seconds

All three answer the same questions about the same clips in one process, in turn; ratios are paired by turn.
(a) one question at a time as the reference does, (b) transformers' generate on batches, (c) descant's answer_many.
(a) answers a sample, (b) the first --baseline questions, (c) all. Clips are those of --audio, then the demo corpus's.
Runs on a CPU; set OMP_NUM_THREADS to choose cores.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from generate_systems import (
    Batches,
    Descant,
    Load,
    OneByOne,
    closest_race,
    counted_work,
    make_loads,
    product_share,
    time_answers,
)
from torch.nn.functional import linear
from train_generate_model import LONG, SHORT, Writer, extract_mels

from descant.data.audio import load_audio, stream_windows
from descant.data.demo import demo_dir
from descant.models.lp_music_caps import LPMusicCapsConfig, LPMusicCapsForConditionalGeneration
from descant.models.lp_music_caps.precision_tiers_lp_music_caps import has_bfloat16

LENGTHS_ASKED = {"short": SHORT, "long": LONG, "mixed": (*SHORT, *LONG)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="what train_generate_model.py wrote")
    parser.add_argument("--quick", action="store_true", help="a tiny random model and few questions")
    parser.add_argument("--audio", type=Path, help="a folder of recordings to ask about before the demo corpus")
    parser.add_argument("--clips", type=int, default=24, help="clips, of five questions each (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--sample", type=int, default=12, help="questions that (a) answers in all, of each load")
    parser.add_argument("--baseline", type=int, default=48, help="questions that (b) answers each turn, of each load")
    args = parser.parse_args()
    if args.quick:
        report(measure(tiny_model(), read_waveforms(4), turns=1, sample=2, baseline=8, max_length=12))
        return
    if args.model is None:
        parser.error("give --model (see train_generate_model.py) or --quick")
    model = LPMusicCapsForConditionalGeneration.from_pretrained(args.model).eval()
    result = measure(model, read_waveforms(args.clips, args.audio), args.turns, args.sample, args.baseline)
    report(result | {"cold_start": cold_start(args.model)})


def tiny_model() -> LPMusicCapsForConditionalGeneration:
    torch.manual_seed(0)
    return LPMusicCapsForConditionalGeneration(LPMusicCapsConfig.small(vocab_size=5000)).eval()


@torch.no_grad()
def measure(
    model: LPMusicCapsForConditionalGeneration,
    waveforms: list[np.ndarray],
    turns: int,
    sample: int,
    baseline: int,
    **settings,
) -> dict:
    """All figures; those of each load are printed as soon as they are there."""
    loads = make_loads(waveforms, extract_mels(waveforms), 5, model.config.vocab_size)
    descant = Descant(model, **settings)
    descant.answer(loads[0], list(range(min(32, len(loads[0].questions)))))  # packs the weights
    result = {"threads": torch.get_num_threads(), "memory_descant_gb": memory()}
    batch_size = best_batch_size(model, loads[0], baseline, settings)
    systems = {"transformers": Batches(model, batch_size, **settings), "descant": descant}
    for load in loads:
        figures = compare(systems, model, load, turns, sample, baseline, settings)
        result[load.name] = {"batch_size": batch_size} | figures
        report_load(load.name, result[load.name])
    result["one_question"] = {load.name: one_question(model, load, settings) for load in loads[:2]}
    result["tiers"] = compare_tiers(model, loads[2], baseline, settings)
    return result | {"memory_all_gb": memory()}


def read_waveforms(count: int, folder: Path | None = None) -> list[np.ndarray]:
    """The first clips of the recordings in a folder, then of the demo corpus."""
    files = sorted(folder.iterdir()) if folder else []
    clips = [window.samples for file in files for window in stream_windows(file)]
    demo = sorted((demo_dir() / "audio").iterdir())[: max(0, count - len(clips))]
    return [*clips, *(load_audio(file) for file in demo)][:count]


def best_batch_size(model: LPMusicCapsForConditionalGeneration, load: Load, count: int, settings: dict) -> int:
    """The batch size at which transformers' generate is at its fastest."""
    rows = list(range(count))
    sizes = [size for size in (16, 32, 48, 64) if size <= count] or [count]
    seconds = {size: time_answers(Batches(model, size, **settings), load, rows)[0] for size in sizes}
    return min(seconds, key=seconds.get)


def compare(
    systems: dict, model: LPMusicCapsForConditionalGeneration, load: Load, turns: int, sample: int, baseline: int,
    settings: dict,
) -> dict:  # fmt: skip
    """Let the systems answer in turn; seconds a question, ratios by turn, and whether the tokens are the same."""
    seconds = {name: [] for name in ("one_by_one_5", "one_by_one_10", "transformers", "descant")}
    peaks, work, answers = [], [], {name: {} for name in seconds}
    for turn in range(turns):
        share = list(range(turn, sample, turns))
        plan = {
            "one_by_one_5": (OneByOne(model, 5, **settings), share),
            "one_by_one_10": (OneByOne(model, 10, **settings), share[: max(1, len(share) // 3)]),
            "transformers": (systems["transformers"], list(range(min(baseline, len(load.questions))))),
            "descant": (systems["descant"], list(range(len(load.questions)))),
        }
        for name, (system, rows) in plan.items():
            with counted_work(model) as done:
                spent, told = time_answers(system, load, rows)
            work += done if name == "descant" else []
            seconds[name].append(spent)
            answers[name] |= told
            peaks.append(matmul_peak(model))
    lengths = [len(tokens) - 1 for tokens in answers["descant"].values()]
    figures = {"seconds": seconds, "questions": len(load.questions), "work_gflop": work[0]}
    figures |= {"peak_gflops": statistics.median(peaks), "mean_length": statistics.mean(lengths)}
    figures["product_share"] = product_share(systems["descant"], load, list(range(min(24, len(load.questions)))))
    for name in ("one_by_one_5", "transformers"):
        figures[f"compared_with_{name}"] = len(answers[name])
        figures[f"differing_from_{name}"] = differing(model, load, answers[name], answers["descant"], settings)
    alone = [row for row in answers["one_by_one_5"] if row in answers["transformers"]]
    figures["transformers_from_itself"] = sum(answers["one_by_one_5"][r] != answers["transformers"][r] for r in alone)
    return figures


def differing(
    model: LPMusicCapsForConditionalGeneration, load: Load, expected: dict, actual: dict, settings: dict
) -> list[dict]:
    """The questions whose tokens differ, with both answers and how close the closest race before that was."""
    found = []
    for row in (row for row in expected if expected[row] != actual[row]):
        places = enumerate(zip(expected[row], actual[row], strict=False))
        same = next((place for place, (one, other) in places if one != other), None)
        race = closest_race(model, load.batch([row]), settings)
        found.append({"question": row, "first_difference": same, "closest_race": race})
        found[-1] |= {"expected": expected[row], "actual": actual[row]}
    return found


def matmul_peak(model: LPMusicCapsForConditionalGeneration) -> float:
    """GFLOP/s of torch's matrix products of 160 rows with the decoder's largest weights, now."""
    config, rates = model.config, []
    for width in (config.decoder_ffn_dim, config.vocab_size):
        rows, weight = torch.randn(160, config.d_model), torch.randn(width, config.d_model)
        for _ in range(3):
            start = time.perf_counter()
            linear(rows, weight)
            rates.append(2 * rows.shape[0] * weight.numel() / (time.perf_counter() - start) / 1e9)
    return statistics.median(rates)


def one_question(model: LPMusicCapsForConditionalGeneration, load: Load, settings: dict) -> dict:
    """Seconds for a question alone, by transformers' own generate and by descant's, and their ratios."""
    seconds = {"transformers": [], "descant": []}
    for row in range(min(6, len(load.questions))):
        for name, fast in (("transformers", False), ("descant", True)):
            start = time.perf_counter()
            model.generate(**load.batch([row]), fast=fast, **settings)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def compare_tiers(
    model: LPMusicCapsForConditionalGeneration, load: Load, count: int, settings: dict
) -> dict[str, dict[str, float]]:
    """Seconds a question of the tiers that change tokens, and the share of tokens and answers that stay the same."""
    rows = list(range(min(count, len(load.questions))))
    writer = Writer(np.random.default_rng(0), model.config.vocab_size)
    tiers = {"fp32": {}, "bf16": {"tier": "bf16"}, "int8": {"tier": "int8"}, "trimmed": {"vocabulary": writer.words()}}
    if not has_bfloat16():
        del tiers["bf16"]
    exact, figures = {}, {}
    for name, choice in tiers.items():
        seconds, answers = time_answers(Descant(model, **settings, **choice), load, rows)
        exact = exact or answers
        same = [(a == b, sum(x == y for x, y in zip(a, b, strict=False)), len(a)) for a, b in pairs(exact, answers)]
        whole, tokens, total = (sum(part) for part in zip(*same, strict=True))
        figures[name] = {"seconds": seconds, "same_answers": whole / len(rows), "same_tokens": tokens / total}
    return figures


def pairs(expected: dict[int, list[int]], actual: dict[int, list[int]]) -> list[tuple[list[int], list[int]]]:
    return [(expected[row], actual[row]) for row in expected]


def cold_start(model: Path) -> dict[str, list[float]]:
    """Seconds from nothing to the answer of `descant ask` about one clip, and of importing torch and BART alone."""
    clip = sorted((demo_dir() / "audio").iterdir())[0]
    commands = {
        "import": ["-c", "import torch; from transformers import BartForConditionalGeneration"],
        "ask": ["-m", "descant.cli", "ask", str(model), str(clip), "-q", "Is it fast?"],
    }
    seconds = {name: [] for name in commands}
    for _ in range(3):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def memory() -> float:
    """The most memory that this process has had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def report(result: dict) -> None:
    """Print what is not about one load, and one line of JSON for machines."""
    memory = f"peak memory {result['memory_descant_gb']:.2f} GB (descant alone, with weights)"
    print(f"{result['threads']} threads; {memory}")
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
    print(json.dumps(result))


def report_load(load: str, figures: dict) -> None:
    """Print what was found for one load of questions."""
    seconds, asked = figures["seconds"], statistics.mean(LENGTHS_ASKED[load])
    lengths = f"{figures['mean_length']:.1f} tokens an answer (published: {asked:.1f})"
    print(f"{load}: {figures['questions']} questions, {lengths}, batch size of (b) {figures['batch_size']}")
    for name, values in seconds.items():
        ratios = [value / own for value, own in zip(values, seconds["descant"], strict=True)]
        times = f"{statistics.median(ratios):.2f} times as fast ({min(ratios):.2f}-{max(ratios):.2f})"
        print(f"  {name:14} {statistics.median(values):7.3f} s a question; descant is {times}")
    rate, peak = figures["work_gflop"] / (seconds["descant"][0] * figures["questions"]), figures["peak_gflops"]
    print(f"  descant: {rate:.0f} GFLOP/s, {100 * rate / peak:.0f} % of torch's matrix products ({peak:.0f})")
    print(f"  descant: {100 * figures['product_share']:.0f} % of the time in matrix products and convolutions")
    for name in ("one_by_one_5", "transformers"):
        cases = figures[f"differing_from_{name}"]
        print(f"  tokens differ from {name}: {len(cases)} of {figures[f'compared_with_{name}']} questions")
        for case in cases:
            at = f"question {case['question']}, token {case['first_difference']}"
            gap, units = case["closest_race"]
            print(f"    {at}; closest race {gap:.1e}, {units:.0f} units in the last place")
    print(f"  transformers alone and in batches differ: {figures['transformers_from_itself']}")


if __name__ == "__main__":
    main()
