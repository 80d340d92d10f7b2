"""The account of a download folder: one JSON line a clip, whatever became of it."""

import threading
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from descant.data.download.fetch import OK, TRIED_BY_THE_NEXT_RUN
from descant.files import JsonLines, hold_lock, sha256_of

LEDGER_FILE = "ledger.jsonl"


@dataclass(frozen=True)
class LedgerEntry:
    """The last thing that is known of a clip; `file` is its name in the folder, where there is one."""

    clip_id: str
    status: str
    detail: str = ""
    file: str | None = None
    sha256: str | None = None
    duration_s: float | None = None
    attempts: int = 1


class Ledger:
    """Appends are on disk before `add` returns; while it is open as a context, no other run may write here."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.path = self.folder / LEDGER_FILE
        self.entries = _read(self.path)
        self._lock = threading.Lock()
        self._held = ExitStack()

    def __enter__(self) -> "Ledger":
        self._held.enter_context(hold_lock(self.folder / ".lock", f"{self.folder}: another download is writing here"))
        self.entries = _read(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        if self.path.exists():
            self._compact()
        self._held.close()

    def add(self, entry: LedgerEntry) -> None:
        """Write an entry onto the disk."""
        with self._lock:
            self.entries[entry.clip_id] = entry
            JsonLines(self.path).append(asdict(entry), sync=True)

    def pending(self, clip_ids: Iterable[str], retry_failed: bool) -> list[str]:
        """Return the clips to try: new and damaged ones, those that may come now and, on demand, all that did not."""
        return [clip_id for clip_id in clip_ids if self._is_pending(self.entries.get(clip_id), retry_failed)]

    def _is_pending(self, entry: LedgerEntry | None, retry_failed: bool) -> bool:
        if entry is None or entry.status in TRIED_BY_THE_NEXT_RUN:
            return True
        return not self._is_whole(entry) if entry.status == OK else retry_failed

    def _is_whole(self, entry: LedgerEntry) -> bool:
        path = self.folder / f"{entry.clip_id}.flac"
        if not path.is_file():
            return False
        return sha256_of(path) == entry.sha256

    def _compact(self) -> None:
        JsonLines(self.path).write(asdict(self.entries[clip_id]) for clip_id in sorted(self.entries))


def _read(path: Path) -> dict[str, LedgerEntry]:
    """Return the last whole line of each clip; a line torn by a kill is an attempt that did not happen."""
    entries = {}
    for record in JsonLines(path).read():
        with suppress(TypeError):  # a line of something else
            entry = LedgerEntry(**record)
            entries[entry.clip_id] = entry
    return entries
