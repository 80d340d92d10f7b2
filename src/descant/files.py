"""Files that are written whole or not at all."""

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Put a file in place of an earlier one: readers, and runs after a kill, see the old or the new, never a half.

    Several processes may write the same file: the last one stays. Text becomes UTF-8; file names in it that are not
    text come out as they were.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")  # nobody else's
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def hold_lock(path: Path, busy: str | None = None, shared: bool = False) -> Iterator[None]:
    """Holds the lock of a file, made where it is not there; waits for another holder, or raises ValueError(busy).

    shared: with others that share it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError as error:
            raise ValueError(busy) from error
        yield
