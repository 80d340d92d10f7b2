"""What one sees of a run: a progress bar on stderr, a log and a loss curve in the output folder."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from descant.files import write_whole
from descant.training.curriculum import rows_per_step

log = logging.getLogger(__name__)
LOG_FILE = "training_log.jsonl"
CURVE_FILE = "loss.png"


def show_run(trainer: Trainer, place: Callable[[], tuple[str, float]], loss_name: str) -> None:
    """Give a trainer this bar, log and curve instead of transformers' own; see `ProgressBar` and `RunLog`."""
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(ProgressBar(place))
    trainer.add_callback(RunLog(loss_name))


class ProgressBar(TrainerCallback):
    """One line: stage, epoch, loss, learning rate, rows a second, time left."""

    def __init__(self, place: Callable[[], tuple[str, float]]) -> None:
        """place: gives the stage and the epoch that are reached."""
        self.place = place
        self.bar: tqdm | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.started, self.first_step, self.shown = time.monotonic(), state.global_step, {}
        if state.is_world_process_zero and not args.disable_tqdm:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", dynamic_ncols=True)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: Any
    ) -> None:
        if self.bar is None:
            return
        if "loss" in logs:
            self.shown |= {"loss": f"{logs['loss']:.3f}", "lr": f"{logs['learning_rate']:.1e}"}
        if "eval_loss" in logs:
            self.shown["val"] = f"{logs['eval_loss']:.3f}"
        stage, epoch = self.place()
        seconds = max(time.monotonic() - self.started, 1e-9)
        rows = (state.global_step - self.first_step) * rows_per_step(args)
        self.bar.set_description(f"{stage} epoch {epoch:.1f}", refresh=False)
        self.bar.set_postfix({**self.shown, "rows/s": f"{rows / seconds:.0f}"})

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.bar is not None:
            self.bar.close()


class RunLog(TrainerCallback):
    """Writes every logged line to `training_log.jsonl` and draws `loss.png`, at each validation and at the end."""

    def __init__(self, loss_name: str) -> None:
        self.loss_name = loss_name

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._write(args, state)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._write(args, state)

    def _write(self, args: TrainingArguments, state: TrainerState) -> None:
        # The whole history each time: a resumed run's file then equals the file of a run that was never killed.
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir)
        write_whole(folder / LOG_FILE, "".join(json.dumps(line) + "\n" for line in state.log_history))
        draw_curve(state.log_history, folder / CURVE_FILE, self.loss_name)


def draw_curve(history: list[dict[str, Any]], path: Path, loss_name: str) -> None:
    """Training and validation loss over the steps, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for key, label in (("loss", "training"), ("eval_loss", "validation")):
        points = [(line["step"], line[key]) for line in history if key in line]
        if points:
            axes.plot(*zip(*points, strict=True), marker="." if len(points) < 50 else None, label=label)
    axes.set(xlabel="step", ylabel=loss_name)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
