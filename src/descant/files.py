"""Files that survive kills: written whole, locked, appended to line by line, and known by their sha256."""

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from descant.program import BrokeOff

log = logging.getLogger(__name__)

Record = dict[str, Any]
LONGEST_END = 50  # characters of a name in that of its partial file, which may have 255 bytes too
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would take for one, at a cell's beginning


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace a file in one step: readers, and runs after a kill, see the old or the new content, never a half.

    Several processes may write the same file: the last one stays. Text is encoded as UTF-8; file names in it that
    are not text keep their bytes. Raises OSError, which names `path`.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    with replace_whole(path) as partial, naming(path):
        partial.write_bytes(data)


@contextmanager
def replace_whole(path: Path) -> Iterator[Path]:
    """Give the path of a new file or folder, which takes the place of `path` when the block ends without an error.

    The new path lies beside `path`, with a name of its own that ends in the same suffix. After an error it is removed
    and `path` is as it was. Raises OSError, which names `path`, also for a device or pipe: it would be gone.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    if not path.name:
        raise OSError(errno.EINVAL, "it names no file", str(path))
    partial = path.with_name(f".{uuid.uuid4().hex}.partial.{path.name[-LONGEST_END:]}")
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with naming(path):
            _flush_all(partial)
            if partial.is_dir() and path.is_dir():
                _replace_folder(partial, path)
            else:
                partial.replace(path)
    finally:
        _remove(partial)


def _replace_folder(new: Path, old: Path) -> None:
    """Rename one folder to the name of another, which is put back where that fails."""
    aside = old.with_name(f".{uuid.uuid4().hex}.old.{old.name[-LONGEST_END:]}")
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _flush_all(path: Path) -> None:
    for each in [path, *(path.rglob("*") if path.is_dir() else [])]:
        if not each.is_symlink():
            flush(each)


def flush(path: Path) -> None:
    """Force a file or folder onto the disk, so that a power cut after a rename cannot undo it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    with suppress(OSError):  # never over the error that led here
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make every OSError of the block name `path`: those of `write` and `fsync` name no file by themselves."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        if error.filename2 is not None:
            del error.filename2  # None would be shown as a second file
        raise


@contextmanager
def hold_lock(path: Path, busy: str | None = None, *, shared: bool = False, inherited: bool = True) -> Iterator[None]:
    """Hold the lock of a file, which is made where it is missing, until the block or the process ends.

    Args:
        path: the file to lock; where its file system has no locks, a warning says so and the block runs unlocked.
        busy: raise ValueError(busy) where another process holds the lock; without it, wait.
        shared: hold it together with others that share it.
        inherited: forked children hold it too, and keep it after the death of this process. A run whose workers
            outlive it by seconds takes False; the lock then ends as soon as this process closes the file anywhere.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        lock = fcntl.flock if inherited else fcntl.lockf
        try:
            lock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (fcntl.LOCK_NB if busy else 0))
        except OSError as error:
            if busy and error.errno in (errno.EAGAIN, errno.EACCES):
                raise ValueError(busy) from error
            log.warning("%s cannot be locked (%s): start no second run here", path, error.strerror)
        yield


class JsonLines:
    """A log that is appended to, one JSON object a line; a kill loses at most the line that is being written.

    A torn line is left out when the log is read, and the next line begins on a line of its own. Text that is not
    UTF-8, such as a file name, keeps its bytes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, *records: Mapping[str, Any], sync: bool = False) -> None:
        """Write records out of this process, in one piece; several processes may append to one file.

        sync: also onto the disk. Raises OSError, which names the file, and ValueError for NaN or infinite numbers.
        """
        lines = b"".join(map(to_line, records))
        with naming(self.path), self.path.open("a+b", buffering=0) as file:
            left = lines if _ends_whole(file.fileno()) else b"\n" + lines
            while left:  # a disk that takes only a part says why when it is given the rest
                left = left[file.write(left) :]
            if sync:
                os.fsync(file.fileno())

    def read(self, *, whole: bool = False) -> Iterator[Record]:
        """Give the records in their order; a missing file holds none.

        whole: the file was written in one step, so that no line can be torn: raise ValueError, which names the line,
        where one is no JSON object.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                record = _from_line(line)
                if record is not None:
                    yield record
                elif whole and line.strip():
                    raise ValueError(f"{self.path}: line {number} is no JSON object")

    def write(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace the whole log in one step."""
        write_whole(self.path, b"".join(map(to_line, records)))


class JobLog:
    """The records of a long job: one JSONL file, with a part beside it for each process while the job runs.

    Each record is written as soon as it is there, so that a kill loses none of them; the next run gathers the parts
    and goes on from there. A part is locked while its process lives, so that no run takes another's records away.
    """

    def __init__(self, path: Path, key: str, check: Callable[[Record], bool], what: str) -> None:
        """
        key: the field by which a record is known. check: whether a record is one of the job's. what: their name.
        """
        self.path, self.key, self.check, self.what = path, key, check, what

    def read(self) -> list[Record]:
        """Read the log and all its parts: the last record of each key, without the half line that a kill leaves.

        Raises ValueError where another run is writing, or for a file that holds something else.
        """
        records: dict[str, Record] = {}
        for path in [self.path, *self._free_parts()]:
            # The log is written in one step: a line that cannot be read is somebody else's. A part may be torn.
            for record in JsonLines(path).read(whole=path == self.path):
                if not self.check(record):
                    raise ValueError(
                        f"{path}: a line is no {self.what}; give another --output, or move this file away"
                    )
                records[record[self.key]] = record
        return list(records.values())

    def read_whole(self, keys: Collection[str]) -> list[Record]:
        """Read the log and all its parts; raise BrokeOff where records that were made are not there any more."""
        records = self.read()
        lost = len(set(keys) - {record[self.key] for record in records})
        if lost:
            raise BrokeOff(
                f"{self.path}: {lost} of {len(keys)} {self.what}s are gone, as if the file or its folder was changed "
                "meanwhile: run the same command again"
            )
        return records

    def write(self, records: Iterable[Record]) -> None:
        """Write the whole log in one step, and remove the parts that it now holds."""
        JsonLines(self.path).write(records)
        for part in self._free_parts():
            part.unlink()

    @contextmanager
    def part(self, process: int = 0) -> Iterator[JsonLines]:
        """Give a process's part, to append to; raises ValueError where another run writes it."""
        part = JsonLines(self.path.with_name(f"{self.path.name}.part-{process}"))
        with hold_lock(part.path, _busy(part.path)):
            yield part

    def _free_parts(self) -> list[Path]:
        """List the log's parts; raise ValueError where one is being written."""
        named = (path for path in self.path.parent.glob("*.part-*") if path.name.startswith(f"{self.path.name}.part-"))
        parts = sorted(named)
        for part in parts:
            with hold_lock(part, _busy(part), shared=True):  # all processes of a run look at once
                pass
        return parts


def _busy(part: Path) -> str:
    return f"{part}: another run writes here; wait for its end, or give another --output"


def gather(folder: Path, pattern: str) -> Iterator[Record]:
    """Give the records of all logs in a folder whose names match, by name: the parts that processes wrote."""
    for path in sorted(folder.glob(pattern)):
        yield from JsonLines(path).read()


def to_line(record: Mapping[str, Any]) -> bytes:
    """Return a record as one line of JSON; raise ValueError for NaN or infinite numbers."""
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8", "surrogateescape") + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair, which only an escape can hold
        return json.dumps(record, allow_nan=False).encode() + b"\n"


def _from_line(line: bytes) -> Record | None:
    try:
        record = json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _ends_whole(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"


def escape_formula(cell: Any) -> Any:
    """Return a cell of a table that no spreadsheet takes for a formula: text that looks like one begins with `./`."""
    return f"./{cell}" if isinstance(cell, str) and cell.startswith(FORMULAS) else cell


def read_regular(path: str | Path) -> bytes:
    """Return what a regular file holds; raise OSError, also for a pipe, which may never end, or a device."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return Path(path).read_bytes()


def sha256_of(path: str | Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_inside(path: Path, folder: Path) -> None:
    """Raise ValueError where a path is no regular file, or a link to one that lies outside of the folder."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{path} is a link to a file outside of the folder: put a copy of that file in its place, or remove it"
        )
    if not path.is_file():
        raise ValueError(f"{path} is no regular file: remove it")
