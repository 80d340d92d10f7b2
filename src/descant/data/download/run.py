"""A download run: clips over several workers, in rounds, into a folder with a ledger."""

import logging
import shutil
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from descant.data.annotations import Row, parse_clip_id
from descant.data.download.cut import cut_clip, section_of
from descant.data.download.fetch import REQUEST_PAUSE_S, YOUTUBE, Fetcher, find_ffmpeg
from descant.data.download.ledger import Ledger, LedgerEntry
from descant.data.download.outcomes import BLOCKED, OK, TRANSIENT, FetchError, Outcome
from descant.data.download.pace import Pace, Stopped

logger = logging.getLogger(__name__)
PARTIAL_FOLDER = ".partial"
# That many refusals of different clips without a success between are the server's answer to the run, not to a clip.
REFUSALS_IN_A_ROW = 3


@dataclass(frozen=True)
class DownloadSettings:
    """How a run goes about it; times in seconds."""

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
        return set(self.counts) <= {OK}


def download_clips(
    rows: Sequence[Row], folder: str | Path, settings: DownloadSettings | None = None, progress: bool | None = None
) -> Summary:
    """Fetches the clips that the folder does not have yet, as `<clip_id>.flac`, 16 kHz mono, exactly the window long.

    Transient failures are tried again in later rounds and later runs; what is gone for good only with `retry_failed`.
    A killed run goes on where it was. The ledger accounts for every clip that was tried.
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

    def __init__(self, ledger: Ledger, settings: DownloadSettings):
        self.ledger, self.settings = ledger, settings
        self.ffmpeg = find_ffmpeg(settings.ffmpeg)
        self.pace = Pace(settings.sleep_s, settings.backoff_s, settings.max_backoffs)
        self.partial = ledger.folder / PARTIAL_FOLDER
        shutil.rmtree(self.partial, ignore_errors=True)  # what a killed run left
        self.partial.mkdir()
        self._of_thread = threading.local()
        self._lock = threading.Lock()
        self._refusals = 0

    def go(self, clip_ids: list[str], progress: bool | None) -> None:
        for attempt in range(1, self.settings.attempts + 1):
            clip_ids = self._round(clip_ids, attempt, progress)
            if not clip_ids or self.pace.stopped:
                return
            if attempt < self.settings.attempts:
                time.sleep(self.settings.retry_wait_s)

    def _round(self, clip_ids: list[str], attempt: int, progress: bool | None) -> list[str]:
        """Tries each clip once; returns those that are worth another attempt."""
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
            entry = self._download(clip_id, attempt)
        except FetchError as error:
            entry = LedgerEntry(clip_id, error.outcome.status, error.outcome.detail, attempts=attempt)
            self._learn(error.outcome, began)
        else:
            self.pace.went_well()
            self._refusals = 0
        self.ledger.add(entry)
        return entry

    def _download(self, clip_id: str, attempt: int) -> LedgerEntry:
        ytid, start_s, end_s = parse_clip_id(clip_id)
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

    def _learn(self, outcome: Outcome, began: float) -> None:
        with self._lock:
            self._refusals = self._refusals + 1 if outcome.status == BLOCKED else self._refusals
            refused = self._refusals >= REFUSALS_IN_A_ROW
            self._refusals = 0 if refused else self._refusals
        if outcome.slow_down or refused:
            logger.warning("told to slow down: %s", outcome.detail)
            self.pace.slow_down(began, outcome.retry_after_s)
