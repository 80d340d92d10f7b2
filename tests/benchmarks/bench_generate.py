"""How fast questions are answered: the reference's loop, transformers' generate and descant, side by side.

    python tests/benchmarks/train_generate_model.py --output ~/.cache/descant/bench_generate   # once, 20 minutes
    python tests/benchmarks/bench_generate.py --model ~/.cache/descant/bench_generate          # up to an hour
    python tests/benchmarks/bench_generate.py --quick                                          # a tiny model, seconds

All three answer the same questions about the same clips in one process, in turn; ratios are paired by turn.
(a) one question at a time as the reference does, (b) transformers' generate on batches, (c) descant's answer_many.
(a) answers a sample, (b) the first --baseline questions, (c) all. Runs on a CPU; set OMP_NUM_THREADS to choose cores.
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
from generate_systems import Batches, Descant, Load, OneByOne, count_work, make_loads, time_answers
from torch.nn.functional import linear
from train_generate_model import LONG, SHORT, Writer, read_mels

from descant.data.audio import load_audio
from descant.data.demo import demo_dir
from descant.models.lp_music_caps import LPMusicCapsConfig, LPMusicCapsForConditionalGeneration

LENGTHS_ASKED = {"short": SHORT, "long": LONG, "mixed": (*SHORT, *LONG)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="what train_generate_model.py wrote")
    parser.add_argument("--quick", action="store_true", help="a tiny random model and few questions")
    parser.add_argument("--full", action="store_true", help="200 clips instead of 40")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--sample", type=int, default=36, help="questions that (a) answers in all, of each load")
    parser.add_argument("--baseline", type=int, default=96, help="questions that (b) answers each turn, of each load")
    args = parser.parse_args()
    if args.quick:
        report(measure(tiny_model(), clips=4, turns=1, sample=2, baseline=8, max_length=12))
        return
    if args.model is None:
        parser.error("give --model (see train_generate_model.py) or --quick")
    model = LPMusicCapsForConditionalGeneration.from_pretrained(args.model).eval()
    result = measure(model, 200 if args.full else 40, args.turns, args.sample, args.baseline)
    report(result | {"cold_start": cold_start(args.model)})


def tiny_model() -> LPMusicCapsForConditionalGeneration:
    torch.manual_seed(0)
    return LPMusicCapsForConditionalGeneration(LPMusicCapsConfig.small(vocab_size=5000)).eval()


@torch.no_grad()
def measure(
    model: LPMusicCapsForConditionalGeneration, clips: int, turns: int, sample: int, baseline: int, **settings
):
    """All figures, as a dictionary."""
    files = sorted((demo_dir() / "audio").iterdir())[:clips]
    loads = make_loads([load_audio(file) for file in files], read_mels(clips), 5, model.config.vocab_size)
    result = {"threads": torch.get_num_threads(), "memory_before_gb": memory()}
    descant = Descant(model, **settings)
    for load in loads:
        everything = list(range(len(load.questions)))
        result[load.name] = {"work_gflop": count_work(model, lambda load=load, e=everything: descant.answer(load, e))}
    result["memory_descant_gb"] = memory()
    batch_size = best_batch_size(model, loads[0], baseline, settings)
    systems = {"transformers": Batches(model, batch_size, **settings), "descant": descant}
    for load in loads:
        figures = compare(systems, model, load, turns, sample, baseline, settings)
        result[load.name] |= {"batch_size": batch_size} | figures
    result["one_question"] = one_question(model, loads[0], settings)
    result["tiers"] = compare_tiers(model, loads[2], settings)
    return result | {"memory_all_gb": memory()}


def best_batch_size(model: LPMusicCapsForConditionalGeneration, load: Load, count: int, settings: dict) -> int:
    """The batch size at which transformers' generate is at its fastest."""
    rows = list(range(min(64, count)))
    seconds = {size: time_answers(Batches(model, size, **settings), load, rows)[0] for size in (16, 32, 64)}
    return min(seconds, key=seconds.get)


def compare(
    systems: dict, model: LPMusicCapsForConditionalGeneration, load: Load, turns: int, sample: int, baseline: int,
    settings: dict,
) -> dict:  # fmt: skip
    """Let the systems answer in turn; seconds a question, ratios by turn, and whether the tokens are the same."""
    seconds = {name: [] for name in ("one_by_one_5", "one_by_one_10", "transformers", "descant")}
    peaks, answers = [], {name: {} for name in seconds}
    for turn in range(turns):
        share = list(range(turn, sample, turns))
        plan = {
            "one_by_one_5": (OneByOne(model, 5, **settings), share),
            "one_by_one_10": (OneByOne(model, 10, **settings), share[: max(1, len(share) // 3)]),
            "transformers": (systems["transformers"], list(range(min(baseline, len(load.questions))))),
            "descant": (systems["descant"], list(range(len(load.questions)))),
        }
        for name, (system, rows) in plan.items():
            spent, told = time_answers(system, load, rows)
            seconds[name].append(spent)
            answers[name] |= told
            peaks.append(matmul_peak(model))
    lengths = [len(tokens) - 1 for tokens in answers["descant"].values()]
    figures = {"seconds": seconds, "questions": len(load.questions)}
    figures |= {"peak_gflops": statistics.median(peaks), "mean_length": statistics.mean(lengths)}
    for name in ("one_by_one_5", "transformers"):
        figures[f"differing_from_{name}"] = differing(answers[name], answers["descant"])
    return figures


def differing(expected: dict[int, list[int]], actual: dict[int, list[int]]) -> list[dict]:
    """The questions whose tokens differ, with both answers."""
    rows = [row for row in expected if expected[row] != actual[row]]
    return [{"question": row, "expected": expected[row], "actual": actual[row]} for row in rows]


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
    for row in range(8):
        for name, fast in (("transformers", False), ("descant", True)):
            start = time.perf_counter()
            model.generate(**load.batch([row]), fast=fast, **settings)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def compare_tiers(model: LPMusicCapsForConditionalGeneration, load: Load, settings: dict) -> dict:
    """Seconds a question of the tiers that change tokens, and the share of tokens and answers that stay the same."""
    rows = list(range(len(load.questions)))
    writer = Writer(np.random.default_rng(0), model.config.vocab_size)
    tiers = {"fp32": {}, "bf16": {"tier": "bf16"}, "int8": {"tier": "int8"}, "trimmed": {"vocabulary": writer.words()}}
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
    """Print a table for people and one line of JSON for machines."""
    print(
        f"{result['threads']} threads; peak memory {result['memory_descant_gb']:.2f} GB (descant alone, with weights)"
    )
    for load in ("short", "long", "mixed"):
        figures = result[load]
        seconds = figures["seconds"]
        rate = figures["work_gflop"] / (statistics.median(seconds["descant"]) * figures["questions"])
        asked = statistics.mean(LENGTHS_ASKED[load])
        print(
            f"{load}: {figures['mean_length']:.1f} tokens an answer (published: {asked:.1f}), "
            f"batch size of (b) {figures['batch_size']}"
        )
        for name, values in seconds.items():
            ratios = [value / own for value, own in zip(values, seconds["descant"], strict=True)]
            print(
                f"  {name:14} {statistics.median(values):7.3f} s a question; descant is "
                f"{statistics.median(ratios):.2f} times as fast ({min(ratios):.2f}-{max(ratios):.2f})"
            )
        peak = figures["peak_gflops"]
        print(f"  descant: {rate:.0f} GFLOP/s, {100 * rate / peak:.0f} % of torch's matrix products ({peak:.0f})")
        for name in ("one_by_one_5", "transformers"):
            print(f"  tokens differ from {name}: {len(figures[f'differing_from_{name}'])}")
    single = result["one_question"]
    ratios = [b / c for b, c in zip(single["transformers"], single["descant"], strict=True)]
    for name, tier in result["tiers"].items():
        print(
            f"tier {name}: {tier['seconds']:.3f} s a question (mixed); as in fp32: "
            f"{100 * tier['same_answers']:.1f} % of the answers, {100 * tier['same_tokens']:.1f} % of the tokens"
        )
    print(f"one question alone: {statistics.median(ratios):.2f} times as fast as transformers' generate")
    if "cold_start" in result:
        bare, ask = (statistics.median(result["cold_start"][name]) for name in ("import", "ask"))
        print(f"cold start: descant ask {ask:.1f} s, importing torch and transformers' BART {bare:.1f} s")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
