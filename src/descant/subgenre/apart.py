"""Trains small classifiers in processes of their own beside the main one, so that each core trains one at a time.

One that reads a few sentences takes thousands of short steps, for which more than one thread only costs time.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Self

import torch
from tqdm import tqdm

from descant.data.extraction import die_with_parent, start_fork_server, stop_fork_server
from descant.program import keep_freed_memory, silence_transformers
from descant.subgenre.examples import SubgenreData
from descant.subgenre.training import FINISHED, SubgenreOptions, SubgenreSettings, train_classifier
from descant.training.settings import with_changes

log = logging.getLogger(__name__)

# Training tracks times epochs, over all classifiers, from which on the seconds of the imports are worth it.
WORTH_PROCESSES = 40_000
SECONDS_A_LOOK = 0.5  # until the bar counts again what is finished


@dataclass(frozen=True)
class Training:
    """A classifier to train: its settings, and what it reads of a track."""

    settings: SubgenreSettings
    modalities: tuple[str, ...]

    @property
    def marker(self) -> Path:
        """The file that says that its folder is finished."""
        return Path(self.settings.output_dir) / FINISHED


class TrainingApart:
    """Processes that train classifiers, each into its folder; leaving the block ends them.

    What they leave unfinished is for the caller to train: what failed there fails again, and is named.
    """

    def __init__(self) -> None:
        self._begun: list[Training] = []
        self._processes: list[BaseProcess] = []
        self._starter: threading.Thread | None = None
        self._problem: Exception | None = None
        self._left = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._left = True
        if self._starter is not None:
            if self._starter.is_alive():
                stop_fork_server()
            self._starter.join()
        for process in self._processes:
            process.terminate()
            process.join()

    def start(self, trainings: Sequence[Training], options: SubgenreOptions, data: SubgenreData) -> None:
        """Start on what is unfinished, where processes are worth it (see `count_processes`)."""
        begun = [one for one in trainings if one.settings.resume == "no" or not one.marker.is_file()]
        count = count_processes(begun, options, len(data.examples["train"]))
        if count < 2:
            return
        for one in begun:
            one.marker.unlink(missing_ok=True)
        self._begun = begun
        # A process takes its data only when it has imported what it needs, which shall keep nobody waiting.
        self._starter = threading.Thread(target=self._start, args=(count, options, data))
        self._starter.start()

    def _start(self, count: int, options: SubgenreOptions, data: SubgenreData) -> None:
        try:
            context = start_fork_server(__name__)
            for number in range(count):
                if self._left:
                    return
                share = self._begun[number::count]
                process = context.Process(target=train_share, args=(share, options, data), daemon=True)
                process.start()
                self._processes.append(process)
        except (OSError, EOFError) as error:  # also where the server was ended meanwhile
            self._problem = error

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Use one thread in the block where processes are at work on the other cores."""
        before = torch.get_num_threads()
        torch.set_num_threads(1 if self._begun else before)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def wait(self, hide_bar: bool | None = False) -> None:
        """Wait until all processes have ended; what they finished is from then on only to be loaded."""
        if self._starter is None:
            return
        self._starter.join()
        if self._problem is not None:
            reason = f"no process can be started ({self._problem})"
            log.warning("classifiers to compare with are trained one by one: %s", reason)
        with tqdm(total=len(self._begun), desc="comparing", unit="classifier", disable=hide_bar) as bar:
            while alive := [process.sentinel for process in self._processes if process.is_alive()]:
                wait(alive, SECONDS_A_LOOK)
                if finished := sum(one.marker.is_file() for one in self._begun) - bar.n:
                    bar.update(finished)
        for one in self._begun:
            if one.marker.is_file():
                one.settings.resume = "auto"
            else:
                log.warning("%s was not finished by its process, and is trained here", one.settings.output_dir)


def count_processes(trainings: Sequence[Training], options: SubgenreOptions, tracks: int) -> int:
    """Return in how many processes to train: 1 where they are no gain, or would multiply the memory of large models.

    tracks: how many are trained on.
    """
    if not trainings:
        return 1
    settings = trainings[0].settings
    alone = settings.device.type == "cpu" and settings.world_size == 1
    small = options.text_encoder is None and settings.init_from is None
    worth_it = len(trainings) * settings.num_train_epochs * tracks >= WORTH_PROCESSES
    return min(torch.get_num_threads(), len(trainings)) if alone and small and worth_it else 1


def train_share(trainings: Sequence[Training], options: SubgenreOptions, data: SubgenreData) -> None:
    """Train some classifiers one after the other, quietly, in a process of their own."""
    threading.Thread(target=die_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    keep_freed_memory()
    silence_transformers()
    for one in trainings:
        with suppress(Exception):  # the main process meets it again, and names it
            train_classifier(with_changes(one.settings, disable_tqdm=True), options, data, one.modalities)


__all__ = ["Training", "TrainingApart", "count_processes", "train_share"]
