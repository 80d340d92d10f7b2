"""The dataset scripts as modules, as a user imports them, with a cache of the test's own."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "datasets_scripts"
AUDIO_SERVER = Path(__file__).resolve().parents[1] / "data/download"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the scripts, which is on the path."""
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.syspath_prepend(AUDIO_SERVER)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets_cache")
    for name in ("musiccaps", "music_instruct", "ludwig"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return SCRIPTS


@pytest.fixture(scope="module")
def script(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The script that the test module names as `SCRIPT`, with the packages beside it."""
    sys.path.insert(0, str(SCRIPTS))
    yield import_module(request.module.SCRIPT)
    sys.path.remove(str(SCRIPTS))
