"""A download run: clips over several workers, in rounds, into a folder with a ledger."""

import logging
import random
import re
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from descant.data.annotations import Row, parse_clip_id
from descant.data.audio import AudioError, load_audio, require_sound
from descant.data.download.fetch import (
    BAD_AUDIO,
    BLOCKED,
    FAILED,
    OK,
    REQUEST_PAUSE_S,
    TRANSIENT,
    YOUTUBE,
    Fetcher,
    FetchError,
    Outcome,
    RunError,
    find_ffmpeg,
    require_cookies,
)
from descant.data.download.ledger import Ledger, LedgerEntry
from descant.files import flush, sha256_of

logger = logging.getLogger(__name__)

SAMPLING_RATE = 16_000
TOLERANCE_S = 0.02
# Decoders and resamplers need some sound before the first sample that counts, and after the last.
MARGIN_S = 1.0


@dataclass(frozen=True)
class CutClip:
    """A written clip."""

    sha256: str
    duration_s: float


def section_of(start_s: float, end_s: float) -> tuple[float, float]:
    """Return the section to fetch for a window, in seconds: the window and a margin."""
    return max(0.0, start_s - MARGIN_S), end_s + MARGIN_S


def cut_clip(section: Path, start_s: float, end_s: float, target: Path) -> CutClip:
    """Cut the window out of a fetched section and put it in `target`'s place in one step.

    `duration_s` is what was decoded of the window. It may miss 20 ms, which are then silence, so that every clip has
    exactly the window's length.

    Raises:
        FetchError: the section is damaged, too short or silent.
        OSError: the clip cannot be written.
    """
    first = round((start_s - section_of(start_s, end_s)[0]) * SAMPLING_RATE)
    wanted = round((end_s - start_s) * SAMPLING_RATE)
    try:
        waveform = load_audio(section, SAMPLING_RATE)[first : first + wanted]
        _require_duration(len(waveform), wanted)
        require_sound(str(section), waveform, SAMPLING_RATE)
    except AudioError as error:
        raise FetchError(Outcome(BAD_AUDIO, error.reason)) from error
    padded = np.pad(waveform.clip(-1, 1), (0, wanted - len(waveform)))
    temporary = section.with_suffix(".flac")  # in the folder that the next run clears
    try:
        soundfile.write(temporary, padded, SAMPLING_RATE, subtype="PCM_16")
    except soundfile.LibsndfileError as error:
        raise OSError(f"{target}: cannot be written ({error}); is the disk full?") from error
    digest = sha256_of(temporary)
    flush(temporary)
    temporary.replace(target)
    return CutClip(digest, len(waveform) / SAMPLING_RATE)


def _require_duration(samples: int, wanted: int) -> None:
    if wanted - samples > TOLERANCE_S * SAMPLING_RATE:
        lasts, asked = samples / SAMPLING_RATE, wanted / SAMPLING_RATE
        raise FetchError(Outcome(BAD_AUDIO, f"the recording has only {lasts:.2f} s of the window's {asked:g} s"))


LONGEST_BACKOFF_S = 900.0


class Stopped(Exception):
    """The run was stopped: no further request is to be made."""


class Pace:
    """Every worker asks `wait` before it begins a clip, and tells how it went."""

    def __init__(self, sleep_s: float, backoff_s: float, max_backoffs: int, seed: int = 0) -> None:
        self.sleep_s, self.backoff_s, self.max_backoffs = sleep_s, backoff_s, max_backoffs
        self.stopped: str | None = None
        self.backoffs = 0
        self._in_a_row = 0
        self._backoff_began = 0.0
        self._next_start = 0.0
        self._random = random.Random(seed)
        self._change = threading.Condition()

    def wait(self) -> float:
        """Wait until this worker may begin, and return that time; raise Stopped where the run is."""
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
        """Make all workers pause, each time twice as long; what began before the present pause asks for no other."""
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
        """Begin counting the pauses in a row anew."""
        with self._change:
            self._in_a_row = 0

    def stop(self, reason: str) -> None:
        """Let no further clip begin; the first reason stays."""
        with self._change:
            self.stopped = self.stopped or reason
            self._change.notify_all()


PARTIAL_FOLDER = ".partial"
# That many refusals of different clips without a success between are the server's answer to the run, not to a clip;
# and that many that failed for the same unknown reason have it in common.
REFUSALS_IN_A_ROW = 3


@dataclass(frozen=True)
class DownloadSettings:
    """How a run goes about it; times in seconds. `url_template` is an address of the web with {ytid} in it."""

    jobs: int = 2
    sleep_s: float = 2.0
    retry_failed: bool = False
    cookies: str | None = None  # the text of a cookies.txt
    ffmpeg: str | None = None
    url_template: str = YOUTUBE
    attempts: int = 3
    retry_wait_s: float = 30.0
    backoff_s: float = 60.0
    max_backoffs: int = 6


@dataclass(frozen=True)
class Summary:
    """How many of the asked clips have which status now, and why the run ended before its end, where it did."""

    counts: Counter = field(default_factory=Counter)
    stopped: str | None = None
    backoffs: int = 0

    @property
    def complete(self) -> bool:
        """Return whether every clip is there."""
        return set(self.counts) <= {OK}


def download_clips(
    rows: Sequence[Row], folder: str | Path, settings: DownloadSettings | None = None, progress: bool | None = None
) -> Summary:
    """Fetch the clips that the folder does not have yet, as `<clip_id>.flac`, 16 kHz mono, exactly the window long.

    Transient failures are tried again in later rounds and later runs; what is gone for good only with `retry_failed`.
    A killed run goes on where it was. The ledger accounts for every clip that was tried. What is wrong with the run
    itself stops it, as the summary then says, and is written down for no clip.

    Raises:
        ValueError: before the first clip: no ffmpeg, cookies that are none, an address that is none, or another run
            that writes here.
    """
    with Ledger(folder) as ledger:
        run = _Run(ledger, settings or DownloadSettings())
        clip_ids = [row.clip_id for row in rows]
        try:
            run.go(ledger.pending(clip_ids, run.settings.retry_failed), progress)
        finally:
            shutil.rmtree(run.partial, ignore_errors=True)
        counts = Counter(ledger.entries[i].status if i in ledger.entries else "not tried" for i in clip_ids)
        return Summary(counts, run.pace.stopped, run.pace.backoffs)


class _Run:
    """The state that the workers of one run share."""

    def __init__(self, ledger: Ledger, settings: DownloadSettings) -> None:
        self.ledger, self.settings = ledger, settings
        _require_settings(settings)
        self.ffmpeg = find_ffmpeg(settings.ffmpeg)
        self.pace = Pace(settings.sleep_s, settings.backoff_s, settings.max_backoffs)
        self.partial = ledger.folder / PARTIAL_FOLDER
        shutil.rmtree(self.partial, ignore_errors=True)  # what a killed run left
        self.partial.mkdir()
        self._of_thread = threading.local()
        self._lock = threading.Lock()
        self._refusals = 0
        self._failures: list[str] = []

    def go(self, clip_ids: list[str], progress: bool | None) -> None:
        """Try the clips, in rounds."""
        for attempt in range(1, self.settings.attempts + 1):
            clip_ids = self._round(clip_ids, attempt, progress)
            if not clip_ids or self.pace.stopped:
                return
            if attempt < self.settings.attempts:
                time.sleep(self.settings.retry_wait_s)

    def _round(self, clip_ids: list[str], attempt: int, progress: bool | None) -> list[str]:
        """Try each clip once; return those that are worth another attempt."""
        again = []
        hidden = None if progress is None else not progress
        pool = ThreadPoolExecutor(self.settings.jobs, initializer=self._start_worker)
        try:
            futures = [pool.submit(self._try, clip_id, attempt) for clip_id in clip_ids]
            bar = tqdm(as_completed(futures), total=len(futures), unit="clip", desc=f"round {attempt}", disable=hidden)
            again = [entry.clip_id for entry in (f.result() for f in bar) if entry and entry.status in TRANSIENT]
        except BaseException:
            self.pace.stop("interrupted")
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return again

    def _try(self, clip_id: str, attempt: int) -> LedgerEntry | None:
        try:
            began = self.pace.wait()
        except Stopped:
            return None
        try:
            entry = self._attempt(clip_id, attempt, began)
            self.ledger.add(entry)
        except (RunError, OSError) as error:
            self.pace.stop(str(error))
            return None
        return entry

    def _attempt(self, clip_id: str, attempt: int, began: float) -> LedgerEntry:
        try:
            entry = self._download(clip_id, attempt)
        except (RunError, OSError):
            raise
        except FetchError as error:
            outcome = error.outcome
        except Exception as error:  # whatever one recording makes the libraries raise
            outcome = Outcome(FAILED, f"{type(error).__name__}: {error}"[:300])
        else:
            self.pace.went_well()
            self._refusals, self._failures = 0, []
            return entry
        self._learn(outcome, clip_id, began)
        return LedgerEntry(clip_id, outcome.status, outcome.detail, attempts=attempt)

    def _download(self, clip_id: str, attempt: int) -> LedgerEntry:
        ytid, start_s, end_s = _recording_and_window(clip_id)
        section = self.partial / f"{uuid.uuid4().hex}.wav"
        try:
            self._of_thread.fetcher.fetch(ytid, *section_of(start_s, end_s), section)
            clip = cut_clip(section, start_s, end_s, self.ledger.folder / f"{clip_id}.flac")
        finally:
            section.unlink(missing_ok=True)
        return LedgerEntry(clip_id, OK, "", f"{clip_id}.flac", clip.sha256, clip.duration_s, attempt)

    def _start_worker(self) -> None:
        asked = self.settings
        pause_s = min(REQUEST_PAUSE_S, asked.sleep_s)
        self._of_thread.fetcher = Fetcher(self.ffmpeg, asked.url_template, asked.cookies, pause_s)

    def _learn(self, outcome: Outcome, clip_id: str, began: float) -> None:
        if outcome.status == FAILED:
            self._compare_failures(outcome.detail.replace(clip_id[1:].partition("]")[0], "…"))
        with self._lock:
            self._refusals = self._refusals + 1 if outcome.status == BLOCKED else self._refusals
            refused = self._refusals >= REFUSALS_IN_A_ROW
            self._refusals = 0 if refused else self._refusals
        if outcome.slow_down or refused:
            logger.warning("told to slow down: %s", outcome.detail)
            self.pace.slow_down(began, outcome.retry_after_s)

    def _compare_failures(self, reason: str) -> None:
        with self._lock:
            self._failures = [*self._failures[1 - REFUSALS_IN_A_ROW :], reason]
            alike = self._failures == [reason] * REFUSALS_IN_A_ROW
        if alike:
            self.pace.stop(f"{REFUSALS_IN_A_ROW} clips in a row failed alike, so it is not the clips: {reason}")


def _recording_and_window(clip_id: str) -> tuple[str, float, float]:
    parsed = parse_clip_id(clip_id)
    if parsed is None:
        raise FetchError(Outcome(FAILED, "its id does not name a recording and a window"))
    return parsed


def _require_settings(settings: DownloadSettings) -> None:
    if not re.match(r"https?://", settings.url_template) or "{ytid}" not in settings.url_template:
        raise ValueError(f"{settings.url_template}: is no address of the web with {{ytid}} in it")
    if settings.cookies is not None:
        try:
            require_cookies(settings.cookies)
        except ValueError as error:
            raise ValueError(f"the text of the cookies {error}") from error
