"""The account of a download folder: one JSON line a clip, whatever became of it."""

import hashlib
import json
import os
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from descant.data.download.fetch import OK, TRANSIENT
from descant.files import hold_lock

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

    def __init__(self, folder: str | Path):
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
        line = json.dumps(asdict(entry), ensure_ascii=False) + "\n"
        with self._lock:
            self.entries[entry.clip_id] = entry
            with open(self.path, "a", encoding="utf-8") as file:
                # A line that a kill tore stands without its end: begin a new one.
                file.write(line if file.tell() == 0 or _ends_whole(self.path) else "\n" + line)
                file.flush()
                os.fsync(file.fileno())

    def pending(self, clip_ids: Iterable[str], retry_failed: bool) -> list[str]:
        """The clips to try: new ones, those of which nothing is known, damaged ones and, on demand, the failed."""
        return [clip_id for clip_id in clip_ids if self._is_pending(self.entries.get(clip_id), retry_failed)]

    def _is_pending(self, entry: LedgerEntry | None, retry_failed: bool) -> bool:
        if entry is None or entry.status in TRANSIENT:
            return True
        return not self._is_whole(entry) if entry.status == OK else retry_failed

    def _is_whole(self, entry: LedgerEntry) -> bool:
        path = self.folder / f"{entry.clip_id}.flac"
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256

    def _compact(self) -> None:
        temporary = self.path.with_suffix(".tmp")
        with open(temporary, "w", encoding="utf-8") as file:
            for clip_id in sorted(self.entries):
                file.write(json.dumps(asdict(self.entries[clip_id]), ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)


def _read(path: Path) -> dict[str, LedgerEntry]:
    """The last whole line of each clip; a line torn by a kill is an attempt that did not happen."""
    entries = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                entry = LedgerEntry(**json.loads(line))
            except (ValueError, TypeError):
                continue
            entries[entry.clip_id] = entry
    return entries


def _ends_whole(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
