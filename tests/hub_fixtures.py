"""Fixture of the local Hub, for every test that pushes to a Hub or loads from one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import LocalHub
from hub_routes import TOKEN
from huggingface_hub import constants


@pytest.fixture
def local_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    """An empty Hub on a loopback port.

    In this process a bare `HfApi()` talks to it; loading by repository id belongs into another process:
    `local_hub.run(home, "-c", code)` or `subprocess` with `local_hub.environment(home)`.
    """
    with LocalHub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub
