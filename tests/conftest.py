"""Fixtures that every test may use: the optional folder of reference values beside the checkout."""

import os
from pathlib import Path

import pytest

# Two workers share two cores; torch reads this when it is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["hub_fixtures"]

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference checkpoints and real recordings; its tests skip where it is absent."""
    if not (SHARED / "reference").is_dir():
        pytest.skip("no reference folder beside the checkout")
    return SHARED
