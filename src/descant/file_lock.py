"""A lock between processes that ends with its holder, however that ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
