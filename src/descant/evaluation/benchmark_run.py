"""One run of a multiple-choice benchmark from its settings: read, ask, score, report."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from descant.answering.listener import Listener
from descant.answering.model_folder import find_model, fingerprint_model
from descant.data.annotations import SHOWN_PROBLEMS, log_problems
from descant.data.splits import ClipHashes, LeakError, find_leaks
from descant.evaluation.benchmarks import CLIP_DIGITS, Benchmark, ChoiceItem, read_benchmark
from descant.evaluation.choice_scores import render_choices, score_choices
from descant.evaluation.choosing import Answered, Chooser, ListenerChooser, answer_items
from descant.evaluation.evaluate import read_trained_clips
from descant.files import JsonLines, hold_lock, write_whole
from descant.publish.facts import SCORES_FILE

CONTROLS = ("shuffled", "noise", "silence")
LOCK_FILE = ".lock"


@dataclass(frozen=True)
class BenchmarkSettings:
    """What is asked, and how.

    rotations: in how many orders the options of an item are shown, at most as many as it has. by_words: read a letter
    out of the answer also where the model gives probabilities.
    """

    benchmark: str
    output_dir: Path
    audio_dir: str | None = None
    controls: bool = False
    rotations: int = 4
    max_clips: int = 0
    by_words: bool = False


def load_chooser(model: str, settings: BenchmarkSettings, num_beams: int | None = None) -> Chooser:
    """Load a model of descant; raises ModelFolderError."""
    folder = find_model(model)
    generation: dict[str, Any] = {"num_beams": num_beams} if num_beams else {}
    listener = Listener.load(model, **generation)
    beams = f"-{num_beams}" if num_beams else ""
    return ListenerChooser(listener, fingerprint_model(folder) + beams, by_words=settings.by_words)


def check_training(model: str, items: Sequence[ChoiceItem], allowed: bool = False) -> dict[str, Any]:
    """Return whether a model says what it was trained on, and how many clips of the items are among that.

    A clip is known by its id, or by the file of its sound. Raises LeakError where there are any, unless allowed.
    """
    trained = read_trained_clips(model, find_model(model))
    contents = {one[:CLIP_DIGITS] for hashes in trained.values() for one in hashes.contents()}
    leaks = contents | set(find_leaks(trained, {item.clip: ClipHashes() for item in items}))
    leaked = {item.clip: item.audio for item in items if item.clip in leaks}
    if leaked and not allowed:
        raise LeakError(
            f"{model} was trained on {len(leaked)} of these clips, {next(iter(leaked.values()))} among them: its "
            "scores would measure memory. Pass --allow_leak to see them all the same"
        )
    return {"checked": bool(trained), "clips": len(leaked)}


def open_benchmark(settings: BenchmarkSettings) -> Benchmark:
    """Return the benchmark, or its first clips; what cannot be asked is logged. Raises ValueError."""
    benchmark = read_benchmark(settings.benchmark, settings.audio_dir)
    log_problems(benchmark.problems, SHOWN_PROBLEMS)
    if not settings.max_clips:
        return benchmark
    chosen = set(list(dict.fromkeys(item.clip for item in benchmark.items))[: settings.max_clips])
    items = [item for item in benchmark.items if item.clip in chosen]
    return Benchmark(benchmark.name, items, benchmark.problems, benchmark.published)


def run_benchmark(
    chooser: Chooser, benchmark: Benchmark, settings: BenchmarkSettings, count_cost: Callable[[], Any] = lambda: None,
    leak: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Ask everything that is not answered yet, and return the scores, which lie in the output folder too.

    count_cost: gives what the requests took, where there are any, when all is asked. leak: what `check_training` gave;
    None: what the model was trained on is not known.

    Raises ValueError where another run writes there, or nothing was answered.
    """
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    busy = f"another run writes into {settings.output_dir}: wait for it, or pass another --output_dir"
    with hold_lock(settings.output_dir / LOCK_FILE, busy):
        answered = {"own": answer_items(chooser, benchmark.items, "own", settings.rotations, settings.output_dir)}
        for condition in CONTROLS if settings.controls else ():
            answered[condition] = answer_items(chooser, benchmark.items, condition, 1, settings.output_dir)
        write_answers(settings.output_dir, answered, chooser.name)
        result = score_choices(benchmark, answered, chooser.name) | {"cost": count_cost()}
        result["leak"] = leak or {"checked": False, "clips": 0}
        write_result(settings.output_dir, result)
    return result


def write_answers(folder: Path, answered: Mapping[str, Sequence[Answered]], model: str) -> None:
    """Write answers.jsonl, and answers-CONDITION.jsonl for each control."""
    for condition, found in answered.items():
        name = "answers.jsonl" if condition == "own" else f"answers-{condition}.jsonl"
        JsonLines(folder / name).write(one.to_record(model) for one in found)


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write scores.json and results.md, each whole or not at all."""
    write_whole(folder / SCORES_FILE, json.dumps(result, indent=2) + "\n")
    write_whole(folder / "results.md", render_choices(result))
