"""Fixtures that every test may use: the optional folder of reference values beside the checkout."""

from pathlib import Path

import pytest

pytest_plugins = ["hub_fixtures"]

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference checkpoints and real recordings; its tests skip where it is absent."""
    if not (SHARED / "reference").is_dir():
        pytest.skip("no reference folder beside the checkout")
    return SHARED
