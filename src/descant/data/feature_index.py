"""The index of a feature store: one self-checked JSON line a record, appended by any number of writers."""

import fcntl
import json
import os
import re
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

_SHARD_NAME = re.compile(r"shard-[0-9a-f]{12}\.bin")


@dataclass(frozen=True)
class IndexEntry:
    """Where a clip's feature lies, what was heard (`audio_sha256`) and what was stored (`feature_sha256`)."""

    clip_id: str
    shard: str | None  # None: the record was discarded
    offset: int
    audio_sha256: str
    feature_sha256: str


class FeatureIndex:
    """Index lines as they are appended: a clip's last line counts, and lines that fail their check are remembered."""

    def __init__(self, path: Path):
        self.path = path
        self._forget()

    def _forget(self) -> None:
        self.entries: dict[str, IndexEntry] = {}
        self._broken_lines: list[int] = []
        self._unfinished = b""
        self._file_id: int | None = None
        self._read_bytes = 0
        self._read_lines = 0

    def append(self, entry: IndexEntry) -> None:
        # One write on O_APPEND never mixes with another writer's; the leading newline parts it from a torn line.
        line = b"\n" + _to_line(entry) + b"\n"
        with self._locked(fcntl.LOCK_SH) as descriptor:
            if os.write(descriptor, line) != len(line):
                raise OSError(f"{self.path}: the disk took only a part of an index line; is it full?")
        self._take(entry)

    def refresh(self) -> None:
        """Reads what this and other writers appended since the last call; a line still being written waits."""
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_ino != self._file_id:  # compacted meanwhile: a new file
                    self._forget()
                    self._file_id = os.fstat(file.fileno()).st_ino
                file.seek(self._read_bytes)
                text = file.read()
        except FileNotFoundError:
            return
        whole = text.rfind(b"\n") + 1
        self._unfinished = text[whole:]
        self._read_bytes += whole
        for line in text[:whole].split(b"\n")[:-1]:
            self._read_lines += 1
            if line:
                self._take_line(line)

    def faults(self) -> list[str]:
        """What is unreadable in the part read so far."""
        faults = [f"{self.path.name}:{line}: unreadable line" for line in self._broken_lines]
        return faults + ([f"{self.path.name}: cut off at the end"] if self._unfinished else [])

    def compact(self) -> None:
        """Rewrites the file with the living entries alone; writers wait, and go on in the new file."""
        with self._locked(fcntl.LOCK_EX):
            self.refresh()
            temporary = self.path.with_name(f".index-{uuid.uuid4().hex[:12]}")
            with open(temporary, "wb") as file:
                file.writelines(_to_line(entry) + b"\n" for entry in self.entries.values())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        self.refresh()

    @contextmanager
    def _locked(self, kind: int) -> Iterator[int]:
        """The open file under a lock, opened again if `compact` replaced it while this waited."""
        while True:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, kind)
                if os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                    yield descriptor
                    return
            finally:
                os.close(descriptor)

    def _take_line(self, line: bytes) -> None:
        entry = _from_line(line)
        if entry is None:
            self._broken_lines.append(self._read_lines)
        else:
            self._take(entry)

    def _take(self, entry: IndexEntry) -> None:
        if entry.shard is None:
            self.entries.pop(entry.clip_id, None)
        else:
            self.entries[entry.clip_id] = entry


def _to_line(entry: IndexEntry) -> bytes:
    fields = asdict(entry)
    return json.dumps(fields | {"check": _check(fields)}).encode()


def _from_line(line: bytes) -> IndexEntry | None:
    try:
        fields = json.loads(line)
        check = fields.pop("check")
        entry = IndexEntry(**fields)
        named_well = entry.shard is None or _SHARD_NAME.fullmatch(entry.shard)
        return entry if named_well and check == _check(fields) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _check(fields: dict) -> str:
    return f"{zlib.crc32(json.dumps(fields, sort_keys=True).encode()):08x}"
