"""How fast questions are answered: the reference's loop, transformers' generate and descant, side by side.

    python tests/benchmarks/train_generate_model.py --output ~/.cache/descant/bench_generate   # once, 15 minutes
    python tests/benchmarks/bench_generate.py --model ~/.cache/descant/bench_generate          # an hour on 2 cores
    python tests/benchmarks/bench_generate.py --quick                                          # a tiny model, seconds

All three answer questions about the same clips in one process, in turn; ratios are paired by turn.
(a) one question at a time as the reference does, (b) transformers' generate on batches, (c) descant's answer_many.
(c) answers all questions in each turn; (a) and (b) answer --sample and --baseline others in each, which ask for the
same mix of lengths. Clips are those of --audio, then the demo corpus's. Progress goes to stderr.
Set OMP_NUM_THREADS to choose cores; --device cuda takes a GPU, where torch's own switches say whether it uses tf32.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from generate_report import COMPARED, report, report_load
from generate_systems import (
    Batches,
    Descant,
    Load,
    OneByOne,
    counted_work,
    find_differences,
    make_loads,
    matmul_peak,
    product_share,
    time_answers,
    wait,
)
from train_generate_model import Writer, extract_mels

from descant.data.audio import load_audio, stream_windows
from descant.data.demo import demo_dir
from descant.models.lp_music_caps import LPMusicCapsConfig, LPMusicCapsForConditionalGeneration
from descant.models.lp_music_caps.packed_bart_lp_music_caps import has_bfloat16

BATCH_SIZES = (32, 64)  # that are tried for transformers' generate


@dataclass(frozen=True)
class Extent:
    """How many turns there are, and how many questions of each load are asked in one."""

    turns: int
    sample: int  # one by one, with 5 beams
    ten_beams: int  # one by one, with 10 beams
    baseline: int  # of transformers' generate


def main() -> int:
    """Measure and print; the exit status is 1 where tokens differ that should not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="what train_generate_model.py wrote")
    parser.add_argument("--quick", action="store_true", help="a tiny random model and few questions")
    parser.add_argument("--audio", type=Path, help="a folder of recordings to ask about before the demo corpus")
    parser.add_argument("--clips", type=int, default=40, help="clips, of five questions each (default: %(default)s)")
    parser.add_argument("--full", action="store_const", const=200, dest="clips", help="200 clips")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--sample", type=int, default=14, help="questions of a load that (a) answers in each turn")
    parser.add_argument("--ten-beams", type=int, default=4, help="the same with 10 beams instead of 5")
    parser.add_argument("--baseline", type=int, default=64, help="questions of a load that (b) answers in each turn")
    args = parser.parse_args()
    if args.quick:
        return report(measure(tiny_model().to(args.device), read_waveforms(4), Extent(1, 2, 1, 8), max_length=12))
    if args.model is None:
        parser.error("give --model (see train_generate_model.py) or --quick")
    model = LPMusicCapsForConditionalGeneration.from_pretrained(args.model).eval().to(args.device)
    extent = Extent(args.turns, args.sample, args.ten_beams, args.baseline)
    result = measure(model, read_waveforms(args.clips, args.audio), extent)
    return report(result | ({"cold_start": cold_start(args.model)} if args.device == "cpu" else {}))


def tiny_model() -> LPMusicCapsForConditionalGeneration:
    torch.manual_seed(0)
    sizes = dict.fromkeys(("encoder_layers", "decoder_layers"), 2)
    sizes |= dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4)
    sizes |= dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 128)
    config = LPMusicCapsConfig(vocab_size=5000, d_model=64, max_position_embeddings=256, **sizes)
    return LPMusicCapsForConditionalGeneration(config).eval()


@torch.no_grad()
def measure(
    model: LPMusicCapsForConditionalGeneration, waveforms: list[np.ndarray], extent: Extent, **settings
) -> dict:
    """All figures; those of each load are printed as soon as they are there."""
    loads = make_loads(waveforms, extract_mels(waveforms), 5, model.config.vocab_size)
    descant = Descant(model, **settings)
    descant.answer(loads[0], loads[0].shares(32)[0])  # packs the weights
    result = {"threads": torch.get_num_threads(), "device": device_name(model), "memory_descant_gb": memory(model)}
    batch_size = best_batch_size(model, loads[0], extent.baseline, settings)
    systems = {"one_by_one_5": OneByOne(model, 5, **settings), "one_by_one_10": OneByOne(model, 10, **settings)}
    systems |= {"transformers": Batches(model, batch_size, **settings), "descant": descant}
    for load in loads:
        figures = compare(systems, model, load, extent, settings)
        result[load.name] = {"batch_size": batch_size} | figures
        report_load(load.name, result[load.name])
    result["one_question"] = {load.name: one_question(model, load, settings) for load in loads[:2]}
    result["tiers"] = compare_tiers(model, loads[2], settings)
    return result | {"memory_all_gb": memory(model)}


def read_waveforms(count: int, folder: Path | None = None) -> list[np.ndarray]:
    """The first clips of the recordings in a folder, then of the demo corpus."""
    files = sorted(folder.iterdir()) if folder else []
    clips = [window.samples for file in files for window in stream_windows(file)]
    demo = sorted((demo_dir() / "audio").iterdir())[: max(0, count - len(clips))]
    return [*clips, *(load_audio(file) for file in demo)][:count]


def best_batch_size(model: LPMusicCapsForConditionalGeneration, load: Load, count: int, settings: dict) -> int:
    """The batch size at which transformers' generate is at its fastest."""
    rows = load.shares(count)[0]
    sizes = [size for size in BATCH_SIZES if len(rows) % size == 0] or [len(rows)]
    seconds = {}
    for size in sizes:
        seconds[size], _ = time_answers(Batches(model, size, **settings), load, rows)
        tell(f"{load.name}, batches of {size}: {seconds[size]:.3f} s a question")
    return min(seconds, key=seconds.get)


def compare(
    systems: dict, model: LPMusicCapsForConditionalGeneration, load: Load, extent: Extent, settings: dict
) -> dict:
    """Let the systems answer in turn; seconds a question, ratios by turn, and whether the tokens are the same."""
    sizes = (extent.sample, extent.ten_beams, extent.baseline)
    shares = [load.shares(size, extent.turns) for size in sizes] + [load.shares(len(load.questions), extent.turns)]
    seconds, peaks, work, answers = {name: [] for name in systems}, [], [], {name: {} for name in systems}
    for turn in range(extent.turns):
        for (name, system), share in zip(systems.items(), shares, strict=True):
            with counted_work(model) as done:
                spent, told = time_answers(system, load, share[turn])
            tell(f"{load.name}, turn {turn + 1} of {extent.turns}: {name} {spent:.3f} s a question")
            work += done if name == "descant" else []
            seconds[name].append(spent)
            answers[name] |= told
            peaks.append(matmul_peak(model))
    figures = {"seconds": seconds, "questions": len(load.questions), "work_gflop": work[0]}
    figures |= {"peak_gflops": statistics.median(peaks), "asked_length": statistics.mean(load.lengths)}
    figures |= {"mean_length": statistics.mean(len(tokens) - 1 for tokens in answers["descant"].values())}
    figures |= {"different_answers": len(set(map(tuple, answers["descant"].values())))}
    if model.device.type == "cpu":
        figures["product_share"] = product_share(systems["descant"], load, load.shares(24)[0])
    return figures | compare_tokens(model, load, answers, settings)


def compare_tokens(
    model: LPMusicCapsForConditionalGeneration, load: Load, answers: dict[str, dict], settings: dict
) -> dict:
    """How many answers of other systems were compared with descant's, and those that differ."""
    figures = {}
    for name in COMPARED:
        figures[f"compared_with_{name}"] = len(answers[name])
        figures[f"differing_from_{name}"] = find_differences(model, load, answers[name], answers["descant"], settings)
    alone = [row for row in answers["one_by_one_5"] if row in answers["transformers"]]
    figures["transformers_from_itself"] = sum(answers["one_by_one_5"][r] != answers["transformers"][r] for r in alone)
    return figures


def one_question(model: LPMusicCapsForConditionalGeneration, load: Load, settings: dict) -> dict:
    """Seconds for a question alone, by transformers' own generate and by descant's, and their ratios."""
    seconds, rows = {"transformers": [], "descant": []}, load.shares(6)[0]
    model.generate(**load.batch_for(model, rows[:1]), **settings)  # packs the weights for one question
    for row in rows:
        batch = load.batch_for(model, [row])
        for name, fast in (("transformers", False), ("descant", True)):
            start = time.perf_counter()
            model.generate(**batch, fast=fast, **settings)
            wait(model)
            seconds[name].append(time.perf_counter() - start)
    tell(f"{load.name}, one question alone: done")
    return seconds


def compare_tiers(
    model: LPMusicCapsForConditionalGeneration, load: Load, settings: dict
) -> dict[str, dict[str, float]]:
    """Seconds a question of the tiers that change tokens, and the share of tokens and answers that stay the same."""
    rows = load.shares(32)[0]
    writer = Writer(np.random.default_rng(0), model.config.vocab_size)
    tiers = {"fp32": {}, "bf16": {"tier": "bf16"}, "int8": {"tier": "int8"}, "trimmed": {"vocabulary": writer.words()}}
    lacking = {"bf16": not has_bfloat16(model.device), "int8": model.device.type != "cpu"}
    tiers = {name: choice for name, choice in tiers.items() if not lacking.get(name)}
    exact, figures = {}, {}
    for name, choice in tiers.items():
        descant = Descant(model, **settings, **choice)
        descant.answer(load, rows[:1])  # packs the weights
        seconds, answers = time_answers(descant, load, rows)
        tell(f"{load.name}, tier {name}: {seconds:.3f} s a question")
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


def tell(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)


def device_name(model: LPMusicCapsForConditionalGeneration) -> str:
    return torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else "CPU"


def memory(model: LPMusicCapsForConditionalGeneration) -> float:
    """The most memory that this process has had, on a GPU if the model is there, in GB."""
    if model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(model.device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


if __name__ == "__main__":
    sys.exit(main())
