"""The output folder of a run: which run it holds, that another never writes into it, its log and its loss curve."""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from descant.files import hold_lock, naming, replace_whole, write_whole
from descant.program import BrokeOff, refusing, require_writable
from descant.publish.facts import RUN_FILE, Run, check, read_json
from descant.training.recipe import ModelOptions
from descant.training.saving import list_checkpoints
from descant.training.settings import Job, RunSettings
from descant.training.training_data import rows_per_step

log = logging.getLogger(__name__)

LOCK_FILE = ".lock"
LOG_FILE = "training_log.jsonl"
CURVE_FILE = "loss.png"
TIME_FILE = ".training_time.json"
LEFTOVER = re.compile(r"\.[0-9a-f]{32}\.(partial|old)\..+")


def identify_run(job: Job[Any, RunSettings, ModelOptions], **more: Any) -> dict[str, Any]:
    """Return the recipe's name, what else it says, and the settings that decide the weights, as JSON holds them."""
    values = {name: getattr(job.settings, name) for name in job.settings.identity}
    named = {"recipe": job.recipe.name, **more, **values, **asdict(job.options)}
    return json.loads(json.dumps(named, default=str))


class RunFolder:
    """A held output folder, which says in `run.json` what run it holds."""

    def __init__(self, path: Path, writes: bool = True) -> None:
        """Open a folder; writes: whether this process is the one of its run that writes."""
        self.path, self.writes = path, writes
        self._run: dict[str, Any] | None = None
        self._locks = ExitStack()
        self._lock: tuple[int, int] | None = None

    @property
    def run_file(self) -> Path:
        """The file that says what run the folder holds."""
        return self.path / RUN_FILE

    def take(self) -> None:
        """Lock the folder; raise ValueError where another run holds it."""
        busy = f"--output_dir {self.path}: another run is writing there: wait until it ends, or choose another folder"
        # Not inherited: workers that load data would hold it too, and outlive a killed run by seconds.
        self._locks.enter_context(hold_lock(self.path / LOCK_FILE, busy, inherited=False))
        self._lock = self._lock_on_disk()

    def release(self) -> None:
        """Leave the folder to others."""
        self._locks.close()

    def _lock_on_disk(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self.path / LOCK_FILE)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def check(self, now: dict[str, Any], starts_over: bool = False) -> None:
        """Refuse a folder that holds another run than `now`, which JSON can hold.

        What an earlier version did not write down of its run counts as unchanged. starts_over: whether the run removes
        what it finds.

        Raises:
            ValueError: names the folder, the first setting that differs, and the way out.
        """
        before = read_run(self.run_file)
        if before is None:
            if not starts_over:
                self._refuse_unknown_run()
            return
        if unknown := now.keys() - before.keys():
            names = ", ".join(sorted(unknown))
            log.warning("%s does not record its %s: taken as it is now", self.run_file, names)
        for name, value in now.items():
            if before.get(name, value) != value:
                raise ValueError(
                    f"--output_dir {self.path} holds a run with {name} = {before[name]!r}, this one has "
                    f"{value!r}: choose another --output_dir"
                )

    def _refuse_unknown_run(self) -> None:
        held = [*list_checkpoints(self.path), *sorted(self.path.glob("*.safetensors"))]
        if held:
            raise ValueError(
                f"--output_dir {self.path} holds {held[0].name}, and no {RUN_FILE} that says of which run: choose "
                "another --output_dir, or start over in this one with --resume no"
            )

    def claim(self, run: dict[str, Any]) -> None:
        """Write down which run the folder holds from now on."""
        self._run = run
        if self.writes:
            self._write()

    def _write(self) -> None:
        write_whole(self.run_file, json.dumps(self._run, indent=2) + "\n")

    def keep(self) -> None:
        """Make sure that the folder is still this run's; what was removed meanwhile is written again.

        Raises:
            BrokeOff: another run took the folder.
        """
        if not self.writes or self._run is None:
            return
        try:
            if self._lock_on_disk() != self._lock:  # removed, and perhaps made anew: nobody else was kept out
                self.take()
            found = read_run(self.run_file)
        except ValueError as error:
            raise BrokeOff(f"the folder was changed while this run was at work: {error}") from error
        if found is None:
            log.warning("%s was removed while this run was at work: it is written again", self.run_file)
            self._write()
        elif found != self._run:
            raise BrokeOff(f"{self.run_file} was changed while this run was at work, and describes another run now")


def read_run(path: Path) -> dict[str, Any] | None:
    """Return the run that a `run.json` describes, None where there is none; raise ValueError where it is damaged."""
    try:
        if not os.path.lexists(path):
            return None
        if not path.is_file():
            raise ValueError(f"{path} is no regular file")
        run = read_json(path)
        check(run, Run, path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{error}; or choose another --output_dir") from error
    return run


@contextmanager
def hold_run_folder(output_dir: str, writes: bool = True) -> Iterator[RunFolder]:
    """Keep other runs out of the output folder until this one ends, in whatever way.

    writes: whether this process is the one of its run that writes; the others are kept out by it.

    Raises:
        ValueError: another run is writing there, or the folder cannot be written into.
    """
    folder = RunFolder(Path(output_dir), writes)
    if writes:
        with refusing(f"--output_dir {output_dir}"):
            require_writable(folder.path)
            folder.take()
            clear_leftovers(folder.path)
    try:
        yield folder
    finally:
        folder.release()


def clear_leftovers(folder: Path) -> None:
    """Remove the halves of files that a kill left; nobody else is writing here."""
    for path in [*folder.glob(".*.partial.*"), *folder.glob(".*.old.*")]:
        if LEFTOVER.fullmatch(path.name) and path.is_file():
            path.unlink()


class KeepFolder(TrainerCallback):
    """Checks, whenever something is saved, that the run's folder is still its own."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Keep the folder; see `RunFolder.keep`."""
        self.folder.keep()


class TrainingTime(TrainerCallback):
    """Counts the seconds of training that led to each checkpoint, over all the times that a run was started.

    They lie beside the checkpoints: those of a run that was killed stay equal to those of one that never was.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / TIME_FILE
        self.before = 0.0  # seconds that led to the checkpoint that was resumed from
        self.started = time.monotonic()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Begin to count at the step that is resumed from."""
        self.started, self.before = time.monotonic(), self._read().get(str(state.global_step), 0.0)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write down what led to this step."""
        if state.is_world_process_zero:
            earlier = {step: seconds for step, seconds in self._read().items() if int(step) < state.global_step}
            now = self.before + time.monotonic() - self.started
            write_whole(self.path, json.dumps(earlier | {str(state.global_step): round(now, 3)}) + "\n")

    def _read(self) -> dict[str, float]:
        try:
            seconds = read_json(self.path)
            check(seconds, dict[str, float], self.path)
        except (OSError, ValueError):  # missing or damaged, which is no reason to stop
            return {}
        return {step: value for step, value in seconds.items() if step.isdecimal()}


def show_run(trainer: Trainer, progress: Callable[[], tuple[str, float]], loss_name: str) -> None:
    """Give a trainer this bar, log and curve instead of transformers' own; see `ProgressBar` and `RunLog`.

    progress: returns the stage and the epoch that are reached.
    """
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(ProgressBar(progress))
    trainer.add_callback(RunLog(loss_name))


class ProgressBar(TrainerCallback):
    """Shows one line: stage, epoch, loss, learning rate, rows a second, time left."""

    def __init__(self, progress: Callable[[], tuple[str, float]]) -> None:
        """Take what returns the stage and the epoch that are reached."""
        self.progress = progress
        self.bar: tqdm | None = None
        self.shown: dict[str, str] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Open the bar at the step that is resumed from."""
        self.started, self.first_step = time.monotonic(), state.global_step
        if state.is_world_process_zero and not args.disable_tqdm:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", dynamic_ncols=True)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Move the bar to the step that is reached."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: Any
    ) -> None:
        """Show the newest loss, learning rate, validation loss and speed."""
        if self.bar is None:
            return
        if "loss" in logs:
            self.shown |= {"loss": f"{logs['loss']:.3f}", "lr": f"{logs['learning_rate']:.1e}"}
        if "eval_loss" in logs:
            self.shown["val"] = f"{logs['eval_loss']:.3f}"
        stage, epoch = self.progress()
        seconds = max(time.monotonic() - self.started, 1e-9)
        rows = (state.global_step - self.first_step) * rows_per_step(args)
        self.bar.set_description(f"{stage} epoch {epoch:.1f}", refresh=False)
        self.bar.set_postfix({**self.shown, "rows/s": f"{rows / seconds:.0f}"})

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()


class RunLog(TrainerCallback):
    """Writes every logged line to `training_log.jsonl` and draws `loss.png`, at each validation and at the end."""

    def __init__(self, loss_name: str) -> None:
        self.loss_name = loss_name

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the log and draw the curve."""
        self._write(args, state)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the log and draw the curve."""
        self._write(args, state)

    def _write(self, args: TrainingArguments, state: TrainerState) -> None:
        # The whole history each time: a resumed run's file then equals the file of a run that was never killed.
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir)
        write_whole(folder / LOG_FILE, "".join(json.dumps(line) + "\n" for line in state.log_history))
        draw_curve(state.log_history, folder / CURVE_FILE, self.loss_name)


def draw_curve(history: list[dict[str, Any]], path: Path, loss_name: str) -> None:
    """Draw training and validation loss over the steps, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for key, label in (("loss", "training"), ("eval_loss", "validation")):
        points = [(line["step"], line[key]) for line in history if key in line]
        if points:
            axes.plot(*zip(*points, strict=True), marker="." if len(points) < 50 else None, label=label)
    axes.set(xlabel="step", ylabel=loss_name)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    with replace_whole(path) as partial, naming(path):
        figure.savefig(partial, dpi=120)
