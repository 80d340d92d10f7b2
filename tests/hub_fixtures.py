"""Fixture of the local Hub, for every test that pushes to a Hub or loads from one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import LocalHub
from hub_routes import TOKEN
from huggingface_hub import close_session, constants

from descant import hub_client


@pytest.fixture
def local_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    """Give an empty Hub on a loopback port.

    In this process a bare `HfApi()` and `descant.hub_client` talk to it; what transformers or datasets load by
    repository id belongs into another process: `local_hub.run(home, "-c", code)` or `subprocess` with
    `local_hub.environment(home)`.
    """
    with LocalHub() as hub:
        take_for_the_hub(hub.url, monkeypatch, tmp_path / "hub_cache")
        yield hub


def take_for_the_hub(url: str, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Make this process's huggingface_hub speak to another address, with an own cache."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(cache / "assets"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    close_session()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect the pauses between attempts instead of making them."""
    seconds: list[float] = []
    monkeypatch.delenv(hub_client.WAIT_VARIABLE, raising=False)
    monkeypatch.setattr(hub_client, "sleep", seconds.append)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # the client's own patience
    return seconds


def expect_silence(monkeypatch: pytest.MonkeyPatch, kind: str = "silent", seconds: float = 0.3) -> None:
    """Let this process wait for an answer so long alone, where a fault is silence: a busy machine answers late."""
    if kind in ("silent", "stalled"):
        for name in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"):
            monkeypatch.setattr(constants, name, seconds)
