"""Kills a training run with SIGKILL at every moment in turn, resumes it, and compares it with the run never killed.

`python tests/training/kill_sweep.py [--recipe] [--points 3] [--timed 20]`: all kill points (or that many, spread
evenly), then kills at random times, of a bare trainer or of a whole two-stage recipe. A kill point is a phase of a
step, a write, a rename or a removal in the output folder, each once before it happens; a written file is also cut in
half first. Prints "N of N"; the exit status is 1 where a run differs.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

import safetensors.torch
import torch
from tiny_recipe import run_recipe, save_tiny_model, write_corpus
from tiny_run import build_trainer
from transformers import Trainer, TrainerCallback

from descant.training import run_folder
from descant.training.saving import find_problem, list_checkpoints

AUDITED = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")
PHASES = ("on_step_begin", "on_substep_end", "on_pre_optimizer_step", "on_step_end", "on_evaluate", "on_save")
TIMINGS = ("runtime", "per_second", "flos")


class KillPoints:
    """Counts the moments of a run in this process, and ends it with SIGKILL just before moment `fatal`."""

    def __init__(self, output_dir: Path, fatal: int | None) -> None:
        self.output_dir, self.fatal, self.count = str(output_dir), fatal, 0
        sys.addaudithook(self._audit)
        safetensors.torch.save_file = self._halving(safetensors.torch.save_file, place=1)
        torch.save = self._halving(torch.save, place=1)

    def pass_one(self, half_written: str | None = None) -> None:
        self.count += 1
        if self.count == self.fatal:
            if half_written:
                os.truncate(half_written, os.path.getsize(half_written) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def _audit(self, event: str, arguments: tuple) -> None:
        if event in AUDITED and self.output_dir in str(arguments[0]) and "r" not in str(arguments[1:2]):
            self.pass_one()

    def _halving(self, save: Callable, place: int) -> Callable:
        def save_or_die(*arguments: object, **options: object) -> None:
            save(*arguments, **options)
            self.pass_one(half_written=str(arguments[place]))

        return save_or_die


class Phases(TrainerCallback):
    """Makes the phases of a step kill points."""

    def __init__(self, points: KillPoints) -> None:
        for phase in PHASES:
            setattr(self, phase, lambda *_, **__: points.pass_one())


def train(output_dir: Path, order: Path, corpus: Path | None, fatal: int | None = None, **settings: object) -> int:
    """One whole run from the newest valid checkpoint on; appends each batch's step and rows to `order`.

    corpus: of the recipe, with `settings` beside its own; None trains the bare trainer.
    """
    torch.set_num_threads(1)
    run_folder.draw_curve = lambda _, path, __: path.write_bytes(b"drawn")  # half of the run's time otherwise
    points = KillPoints(output_dir, fatal)
    with order.open("a") as file:

        def prepare(trainer: Trainer) -> None:
            trainer.add_callback(Phases(points))
            record_order(trainer, file)

        if corpus is None:
            trainer = build_trainer(output_dir)
            prepare(trainer)
            trainer.train(resume_from_checkpoint="auto")
        else:
            run_recipe(corpus, output_dir, prepare, **settings)
    return points.count


def record_order(trainer: Trainer, file: TextIO) -> None:
    step = trainer.training_step

    def recorded(model: torch.nn.Module, inputs: dict, *rest: object, **options: object) -> torch.Tensor:
        file.write(json.dumps([trainer.state.global_step, inputs["row_index"].tolist()]) + "\n")
        file.flush()
        return step(model, inputs, *rest, **options)

    trainer.training_step = recorded


def in_child(work: Callable[[], object], kill_after: float | None = None) -> int:
    """Runs `work` in a forked process, silently; returns the signal that ended it, 0 for a good end."""
    child = os.fork()
    if child == 0:
        status, errors, sink = 1, os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        try:
            work()
            status = 0
        except BaseException:
            os.write(errors, traceback.format_exc().encode())
        finally:
            os._exit(status)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, ended = os.waitpid(child, 0)
    if os.WIFEXITED(ended) and os.WEXITSTATUS(ended):
        raise RuntimeError("a training run failed; its error stands above")
    return os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else 0


def difference(run: Path, other: Path) -> str | None:
    """What differs between two finished runs, bit for bit; None where nothing does."""
    kept = [[path.name for path in list_checkpoints(folder)] for folder in (run, other)]
    if kept[0] != kept[1]:
        return f"the kept checkpoints: {kept[1]} instead of {kept[0]}"
    last = kept[0][-1]
    if problem := find_problem(other / last):
        return problem
    if (other / ".saving").exists() and any((other / ".saving").iterdir()):
        return "a leftover of a killed save"
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        pair = [torch.load(folder / last / name, weights_only=False) for folder in (run, other)]
        if not _equal(*pair):
            return name
    for name in [path.relative_to(run) for path in run.rglob("*.safetensors")]:
        if not _equal(*(safetensors.torch.load_file(folder / name) for folder in (run, other))):
            return str(name)
    if {path.name for path in run.iterdir()} != {path.name for path in other.iterdir()}:
        return "the files of the model folder"
    states = [json.loads((folder / last / "trainer_state.json").read_text()) for folder in (run, other)]
    logs = [[_without_timings(line) for line in state["log_history"]] for state in states]
    return None if logs[0][-1] == logs[1][-1] else "the log"


def _equal(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool((one == other).all()) if hasattr(one, "all") else one == other


def _without_timings(line: dict) -> dict:
    return {key: value for key, value in line.items() if not any(timing in key for timing in TIMINGS)}


def same_order(reference: Path, order: Path) -> bool:
    """Whether every step, also one done twice, saw the rows of the same step of the reference run."""
    expected = read_order(reference)
    seen: dict[int, list] = {}
    for step, rows in order_lines(order):
        batches = seen.setdefault(step, [])
        if rows not in expected[step]:
            return False
        batches.append(rows)
    return seen.keys() == expected.keys() and all(seen[s][-len(expected[s]) :] == expected[s] for s in expected)


def order_lines(order: Path) -> Iterable[tuple[int, list[int]]]:
    return (tuple(json.loads(line)) for line in order.read_text().splitlines())


def read_order(order: Path) -> dict[int, list]:
    steps: dict[int, list] = {}
    for step, rows in order_lines(order):
        steps.setdefault(step, []).append(rows)
    return steps


class Sweep:
    """A reference run, and the question whether a killed one ends like it."""

    def __init__(
        self, folder: Path, recipe: bool, save_start: Callable[[Path], Path] = save_tiny_model, **settings: object
    ) -> None:
        self.folder, self.corpus, self.settings = folder, folder / "corpus" if recipe else None, settings
        if recipe:
            in_child(lambda: write_corpus(self.corpus, save_start))
        self.reference, self.order = folder / "reference", folder / "reference.order"
        started = time.monotonic()
        in_child(lambda: (folder / "count").write_text(str(self.train(self.reference, self.order))))
        self.seconds = time.monotonic() - started
        self.points = int((folder / "count").read_text())

    def train(self, output_dir: Path, order: Path, fatal: int | None = None) -> int:
        return train(output_dir, order, self.corpus, fatal, **self.settings)

    def survives(self, name: str, fatal: int | None = None, kill_after: float | None = None) -> bool:
        """Whether a run killed there and started again ends the same."""
        output_dir, order = self.folder / name, self.folder / f"{name}.order"
        ended = in_child(lambda: self.train(output_dir, order, fatal), kill_after)
        if fatal is not None and ended != signal.SIGKILL:
            print(f"{name}: the kill point was not reached")
            return False
        in_child(lambda: self.train(output_dir, order))
        problem = difference(self.reference, output_dir)
        if problem is None and not same_order(self.order, order):
            problem = "the order of the rows"
        if problem:
            print(f"{name}: differs in {problem}")
        else:
            shutil.rmtree(output_dir)
        return problem is None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, help="this many kill points, evenly spread (default: all)")
    parser.add_argument("--timed", type=int, default=0, help="this many kills at random times besides")
    parser.add_argument("--recipe", action="store_true", help="a whole recipe instead of a bare trainer")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sweep = Sweep(Path(folder), options.recipe)
        count = min(options.points or sweep.points, sweep.points)
        fatal = sorted({1 + number * sweep.points // count for number in range(count)})
        passed = sum(sweep.survives(f"point-{number}", fatal=number) for number in fatal)
        print(f"kill points: {passed} of {len(fatal)} resumed bit-equal (a run has {sweep.points})")
        chance = random.Random(0)
        delays = [chance.uniform(0, sweep.seconds) for _ in range(options.timed)]
        timed = sum(sweep.survives(f"timed-{n}", kill_after=delay) for n, delay in enumerate(delays))
        print(f"kills at random times: {timed} of {len(delays)} resumed bit-equal")
    return 0 if (passed, timed) == (len(fatal), len(delays)) else 1


if __name__ == "__main__":
    sys.exit(main())
