"""The pace of a whole run: a pause between clips, and one back-off for all workers when the server asks for it."""

import random
import threading
import time

LONGEST_BACKOFF_S = 900.0


class Stopped(Exception):
    """The run was stopped: no further request is to be made."""


class Pace:
    """Every worker asks `wait` before it begins a clip, and tells how it went."""

    def __init__(self, sleep_s: float, backoff_s: float, max_backoffs: int, seed: int = 0):
        self.sleep_s, self.backoff_s, self.max_backoffs = sleep_s, backoff_s, max_backoffs
        self.stopped: str | None = None
        self.backoffs = 0
        self._in_a_row = 0
        self._backoff_began = 0.0
        self._next_start = 0.0
        self._random = random.Random(seed)
        self._change = threading.Condition()

    def wait(self) -> float:
        """Returns the time at which this worker may begin; raises Stopped."""
        with self._change:
            while True:
                if self.stopped:
                    raise Stopped(self.stopped)
                now = time.monotonic()
                if now >= self._next_start:
                    self._next_start = now + self.sleep_s * self._random.uniform(0.5, 1.5)
                    return now
                self._change.wait(self._next_start - now)

    def slow_down(self, began: float, retry_after_s: float | None = None) -> None:
        """All workers pause, each time twice as long; what began before the present pause asks for no other one."""
        with self._change:
            if began < self._backoff_began:
                return
            self.backoffs += 1
            self._in_a_row += 1
            if self._in_a_row > self.max_backoffs:
                self.stopped = f"still told to slow down after {self.max_backoffs} pauses; go on in some hours"
                self._change.notify_all()
                return
            pause = min(LONGEST_BACKOFF_S, self.backoff_s * 2 ** (self._in_a_row - 1))
            self._backoff_began = time.monotonic()
            self._next_start = self._backoff_began + max(pause, retry_after_s or 0.0)

    def went_well(self) -> None:
        with self._change:
            self._in_a_row = 0

    def stop(self, reason: str) -> None:
        with self._change:
            self.stopped = self.stopped or reason
            self._change.notify_all()
