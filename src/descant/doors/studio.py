"""What the page, its API and its tools do: read a track within limits, ask, decide and describe it.

Needs no part of the page: every refusal is one sentence, that of `descant ask` where the sound is at fault.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from descant.answering.evidence import Evidence, explain
from descant.answering.listener import Listener
from descant.data.audio import AudioError, Window, load_audio
from descant.doors.answering_queue import AnsweringQueue
from descant.doors.answers import Answered, Decided, Described, Track
from descant.doors.drawing import PICTURE_RATE, draw_picture
from descant.doors.requests import AUDIO, Limits, Refusal, hear, require_short
from descant.models.lp_music_caps.track_music import state
from descant.program import name_error

log = logging.getLogger(__name__)

RESTS_ON = ("windows", "of", "heard")
KEPT = 8  # tracks whose windows are kept, so that a second question need not read them again
READERS = threading.Semaphore(2)  # recordings that are decoded at a time


class Studio:
    """A model that a page, an API and tools ask about sound files, within limits."""

    def __init__(self, listener: Listener, name: str, limits: Limits, hear: int | None = 12) -> None:
        """Start answering. hear: how many windows of a track are heard at most; None: all."""
        self.listener, self.name, self.limits, self.hear = listener, name, limits, hear
        self.queue = AnsweringQueue(listener, hear)
        self.inside = threading.BoundedSemaphore(limits.requests)
        self.kept: OrderedDict[tuple[str, int, int], list[Window]] = OrderedDict()
        self.lock = threading.Lock()

    def close(self) -> None:
        """End the thread that answers."""
        self.queue.close()

    def draw(self, path: str) -> Track:
        """Return a sound file as the page shows it; raises Refusal."""
        with self._place():
            heard = [[window.start_s, window.end_s] for window in self._read(path)]
            try:
                with READERS:
                    waveform = load_audio(path, PICTURE_RATE)
            except AudioError as error:
                raise Refusal(422, f"{AUDIO}: {error.reason}") from error
            return Track(len(waveform) / PICTURE_RATE, heard, draw_picture(waveform))

    def ask(self, path: str, question: str) -> Answered:
        """Answer a question about a sound file; without words, describe it in a sentence. Raises Refusal."""
        asked = " ".join(question.split())
        require_short(asked)
        with self._place():
            windows = self._read(path)
            said = self._wait(self.queue.ask(windows, asked or None))
        if (decided := said.details["decided"]) is None:
            return Answered(asked, said.text, **{name: said.details[name] for name in ("confidence", *RESTS_ON)})
        known = {name: decided[name] for name in ("sure", "probability", "probabilities")}
        return Answered(asked, said.text, **known, **{name: said.details[name] for name in RESTS_ON})

    def decide(self, path: str, question: str, options: Sequence[str] | None = None) -> Decided:
        """Decide between options, without them between yes and no, about a sound file; raises Refusal."""
        asked, named = " ".join(question.split()), read_options(options)
        require_short(asked, named)
        if not asked:
            raise Refusal(400, "there is no question: write one")
        typed = {"type": "choice", "instructions": asked, "criteria": dict.fromkeys(named)} if named else None
        with self._place():
            windows = self._read(path)
            typed = typed or {"type": "noul", "instructions": asked}
            answer = self._wait(self.queue.decide(windows, {asked: typed}))[asked]
        option, probability = state(answer)
        yes = answer.get("noul")
        shares = {"yes": yes, "no": round(1 - yes, 4)} if yes is not None else dict(answer["probabilities"])
        return Decided(
            asked, option, round(probability, 4), bool(answer["sure"]), shares, answer["heard"], answer.get("reason")
        )

    def explain(self, path: str, question: str, options: Sequence[str] | None = None) -> Evidence:
        """Return the seconds of a sound file that a typed answer rests on; raises Refusal, where there is none too."""
        asked, named = " ".join(question.split()), read_options(options) or None
        require_short(asked, named or ())
        with self._place():
            self._read(path)  # within the limits, or refused
            return self._wait(self.queue.run(lambda: explain(self.listener, path, asked, named, hear=self.hear)))

    def describe(self, path: str) -> Described:
        """Describe a sound file; raises Refusal."""
        with self._place():
            self._read(path)  # within the limits, or refused
            found = self._wait(self.queue.run(lambda: self.listener.describe(path, self.hear)))
        return Described(**found | {"audio": AUDIO})

    def _read(self, path: str) -> list[Window]:
        """Return the windows of a track, from those that are kept where they are among them."""
        try:
            status = Path(path).stat()
            key = (path, status.st_size, status.st_mtime_ns)
            with self.lock:
                if key in self.kept:
                    self.kept.move_to_end(key)
                    return self.kept[key]
            if status.st_size > self.limits.bytes:
                raise Refusal(413, f"{AUDIO}: has more than {self.limits.bytes} bytes, the most that are read here")
            content = Path(path).read_bytes()
        except OSError:
            raise Refusal(400, f"{AUDIO}: is not there any more: give it again") from None
        with READERS:
            windows = hear(content, self.listener.processor.feature_extractor, self.limits, self.hear)
        encoded = list(self.listener.encode(windows))
        with self.lock:
            self.kept[key] = encoded
            while len(self.kept) > KEPT:
                self.kept.popitem(last=False)
        return encoded

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Take one of the places for requests, and name what fails; raises Refusal."""
        if not self.inside.acquire(blocking=False):
            raise Refusal(429, "too many requests at a time: try again later")
        try:
            yield
        except Refusal:
            raise
        except ValueError as error:
            raise Refusal(400, str(error)) from error
        except Exception as error:
            log.error("a request failed: %s", name_error(error))
            raise Refusal(500, "the model failed at this request") from error
        finally:
            self.inside.release()

    def _wait(self, future: "Future[Any]") -> Any:
        try:
            return future.result(self.limits.wait_s)
        except (TimeoutError, CancelledError):
            future.cancel()
            raise Refusal(503, f"there was no answer within {self.limits.wait_s:g} s: try again later") from None


def read_options(options: Sequence[str] | None) -> list[str]:
    """Return options without spaces around them, each once; raises Refusal where one alone is left."""
    named = list(dict.fromkeys(filter(None, (" ".join(one.split()) for one in options or ()))))
    if len(named) == 1:
        raise Refusal(400, "one option is no choice: give two or more, or none for a question of yes or no")
    return named
