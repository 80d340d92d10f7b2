"""What leaving out unsure claims costs, paired, and what it gives: claims that hold, claims an answer, grammar.

    python tests/benchmarks/bench_claims.py --models outputs/seed42 outputs/seed1 --features features
    python tests/benchmarks/bench_claims.py --models box --split test_grooves

Each model answers the demo's long questions as it words them and without what it is not sure of. Time is that of one
clip after another, a question each, and of batches of 32; the order changes with each turn.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from transformers import PreTrainedModel, ProcessorMixin

from descant.answering.model_folder import find_model, load_model
from descant.data.annotations import Row
from descant.data.corpus import load_corpus
from descant.data.demo import load_demo
from descant.data.extraction import prepare_features
from descant.data.features import FeatureStore
from descant.evaluation.controls import answer_rows
from descant.training.demo_report import format_claims, measure_claims


def main() -> None:
    """Measure each model, and print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["box"])
    parser.add_argument("--features", type=Path, default=Path("features"))
    parser.add_argument("--split", default="test")
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    rows = load_demo()[args.split]
    for name in args.models:
        model, processor = load_model(find_model(name))
        front_end = model.eval().cached_features(processor.feature_extractor)
        store = prepare_features(load_corpus("demo", ["all"], None), front_end, args.features)
        print(name, args.split, flush=True)
        print(format_claims(measure_claims(model, processor, rows, store)))
        asked = [row for row in rows if row.question_type == "long_description"][:32]
        for size in (1, 32):
            ratio = measure_ratio(model, processor, asked, store, size, args.turns)
            print(f"  {'in batches of ' + str(size):30} {ratio:.2f} × the time of answers as worded")


def measure_ratio(
    model: PreTrainedModel, processor: ProcessorMixin, rows: Sequence[Row], store: FeatureStore, size: int, turns: int
) -> float:
    """Return the median of paired ratios: processor time of answers without what is unsure over that of all words."""

    def answer(everything: bool) -> Callable[[], object]:
        settings = {"batch_size": size, "everything": everything}
        return lambda: [
            answer_rows(model, processor, rows[start : start + size], store, **settings)  # type: ignore[arg-type]
            for start in range(0, len(rows), size)
        ]

    ways, ratios = {False: answer(False), True: answer(True)}, []
    for turn in range(turns):
        seconds = {}
        for everything in (False, True) if turn % 2 else (True, False):
            start = time.process_time()
            ways[everything]()
            seconds[everything] = time.process_time() - start
        ratios.append(seconds[False] / seconds[True])
    return median(ratios)


if __name__ == "__main__":
    main()
