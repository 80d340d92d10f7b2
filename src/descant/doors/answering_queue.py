"""One thread that asks a model for many: what waits at the same time is answered in one batch."""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from descant.answering.answers import Decider, TrackAnswer, pool_answers
from descant.answering.listener import Asking, Listener, ask_together
from descant.answering.questions import TypedQuestions
from descant.answering.stream import Recording
from descant.data.audio import Window
from descant.program import name_error

log = logging.getLogger(__name__)

AT_ONCE = 16  # requests in a batch
TOO_LONG = "shorten the question"  # the way out that models name where a question does not fit
FAILED = "the model failed at this request"


@dataclass(frozen=True)
class Said:
    """An answer as `descant ask` gives it, and what it rests on.

    details: `decided`, `windows`, `of`, `heard`, `confidence`, `score` and `others` of the answer for the track.
    """

    text: str
    details: dict[str, Any]


@dataclass
class Job:
    """Windows of one recording and what is asked about them: a question, typed questions, or work of its own."""

    windows: Sequence[Window]
    question: str | None = None
    typed: dict[str, Any] | None = None
    work: Callable[[], Any] | None = None
    future: "Future[Any]" = field(default_factory=Future)

    def read(self, *_: Any) -> Sequence[Window]:
        """Return the windows, which have been read."""
        return self.windows


class AnsweringQueue:
    """Answers jobs in the order in which they come, in a thread of its own."""

    def __init__(self, listener: Listener, hear: int | None = 12) -> None:
        """Start the thread. hear: how many windows of a recording are heard at most; None: all."""
        self.listener, self.hear = listener, hear
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.typed = lru_cache(maxsize=256)(lambda question: TypedQuestions(listener, [question]))
        self.thread = threading.Thread(target=self._run, name="answering", daemon=True)
        self.thread.start()

    def ask(self, windows: Sequence[Window], question: str | None) -> "Future[Said]":
        """Return the answer to come to a question (None: a caption); ValueError where the model cannot be asked it."""
        return self._put(Job(windows, question))

    def decide(self, windows: Sequence[Window], questions: dict[str, Any]) -> "Future[dict[str, Any]]":
        """Return the decisions to come, as `Listener.decide` gives them; ValueError for questions that are none."""
        return self._put(Job(windows, typed=questions))

    def run(self, work: Callable[[], Any]) -> "Future[Any]":
        """Return the result to come of work with the model, done in its turn; its ValueErrors are passed on."""
        return self._put(Job((), work=work))

    def _put(self, job: Job) -> "Future[Any]":
        self.jobs.put(job)
        return job.future

    def is_alive(self) -> bool:
        """Return whether answers are still to be expected."""
        return self.thread.is_alive()

    def close(self) -> None:
        """End the thread behind what waits."""
        self.jobs.put(None)

    def _run(self) -> None:
        while (first := self.jobs.get()) is not None:
            jobs, last = self._take_more(first)
            jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            try:
                self._answer(jobs)
            except Exception as error:  # the model's, or memory is short: the next ones may be answered
                failed = as_fault(name_error(error))
                for job in jobs:
                    if not job.future.done():
                        job.future.set_exception(failed)
            if last:
                return

    def _take_more(self, first: Job) -> tuple[list[Job], bool]:
        """Return what waits already, and whether the end is behind it."""
        jobs = [first]
        while len(jobs) < AT_ONCE:
            try:
                job = self.jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _answer(self, jobs: Sequence[Job]) -> None:
        free = [job for job in jobs if not self._decide(job)]
        if not free:
            return
        askings = [
            Asking(
                self.listener, [Recording(Path("audio"), f"audio {number}")], [job.question], read_windows=job.read,
                typed=self.typed(job.question),
            )
            for number, job in enumerate(free)
        ]  # fmt: skip
        for job, answers in zip(free, ask_together(askings), strict=True):
            pooled = list(pool_answers(answers))
            good = next((one for one in pooled if isinstance(one, TrackAnswer)), None)
            if good is None:
                job.future.set_exception(self._explain(pooled[0].error or "there is no answer"))
            else:
                job.future.set_result(Said(good.prediction or "", keep_details(good)))

    @staticmethod
    def _explain(reason: str) -> Exception:
        """Return why there is no answer: a ValueError where the question is too long, else the model's fault."""
        return ValueError(reason) if TOO_LONG in reason else as_fault(reason)

    def _decide(self, job: Job) -> bool:
        """Answer what needs no text written; return whether that was so."""
        if job.work is None and job.typed is None:
            return False
        try:
            if job.work is not None:
                job.future.set_result(job.work())
            else:
                decider = Decider(self.listener.model, self.listener.processor, job.typed or {}, self.hear)
                self._set_decisions(job, decider)
        except Exception as error:  # no fault of those that wait with it
            job.future.set_exception(error if isinstance(error, ValueError) else as_fault(name_error(error)))
        return True

    @staticmethod
    def _set_decisions(job: Job, decider: Decider) -> None:
        """Decide questions that have been read: what fails now is the model's fault."""
        try:
            job.future.set_result(decider.decide("audio", job.read).answers)
        except Exception as error:
            job.future.set_exception(as_fault(name_error(error)))


def as_fault(reason: str) -> RuntimeError:
    """Log what the model failed with, which says nothing to who asked, and return what they read in its place."""
    log.error("a request was not answered: %s", reason)
    return RuntimeError(FAILED)


def keep_details(answer: TrackAnswer) -> dict[str, Any]:
    """Return what an answer rests on."""
    kept = ("decided", "windows", "of", "heard", "confidence", "score", "others")
    return {name: value for name, value in asdict(answer).items() if name in kept}
