"""The comparison of tokens on a trained model: all settings are compared, and a difference is told."""

from pathlib import Path

import compare_tokens
import pytest
from tiny import save_tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(save_tiny_model(tmp_path / "model"))


def test_all_settings_are_compared(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_tokens.main([folder, "--max_clips", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == list(compare_tokens.SETTINGS)
    assert all(": 0 of 22 answers differ" in line for line in lines)


def test_a_difference_is_told(
    folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_tokens, "SETTINGS", {"greedy": {}})
    monkeypatch.setattr(compare_tokens, "answer_twice", lambda *_: [([2, 5], [2, 5]), ([2, 5], [2, 6])])
    assert compare_tokens.main([folder, "--max_clips", "1"]) == 1
    assert "greedy: 1 of 2 answers differ [1]" in capsys.readouterr().out
