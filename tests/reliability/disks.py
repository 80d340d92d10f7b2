"""Real disks for tests, small ones, which root alone may mount."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


def mount(place: Path, *options: str) -> None:
    subprocess.run(["mount", *options, str(place)], check=True, capture_output=True)


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """Give a file system of its own, of 64 MB; skip the test where nothing can be mounted."""
    if os.geteuid():
        pytest.skip("only root may mount")
    place.mkdir()
    try:
        mount(place, "-t", "tmpfs", "-o", "size=64m", "none")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    """Fill a disk to its last byte; return the file to remove again."""
    filler = place / "filler"
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
    try:
        for size in (2**20, 1):
            with suppress(OSError):
                while os.write(descriptor, bytes(size)):
                    pass
    finally:
        os.close(descriptor)
    return filler
