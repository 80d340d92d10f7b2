"""The whole check is one command: ruff and mypy run with the tests."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Public classes, methods and functions say what they do, in sentences that begin with a verb.
DOCSTRING_RULES = "D101,D102,D103,D400,D401,D403,D419"


def run_tool(name: str, *arguments: str) -> list[str]:
    """Return the lines that a checker prints about the checkout."""
    command = [sys.executable, "-m", name, *arguments]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode in (0, 1), shown.stderr  # 2: the checker itself failed
    return shown.stdout.splitlines()


def test_ruff_has_nothing_to_say() -> None:
    lines = run_tool("ruff", "check", "--output-format", "concise", ".")
    assert lines == ["All checks passed!"], "\n".join(lines)


def test_public_docstrings_are_sentences_that_begin_with_a_verb() -> None:
    lines = run_tool("ruff", "check", "--output-format", "concise", "--select", DOCSTRING_RULES, "src")
    assert lines == ["All checks passed!"], "\n".join(lines)


def test_mypy_finds_no_type_error() -> None:
    # To write what it remembers takes mypy a quarter of its time: worth it to who has run it here by hand.
    remembered = () if (ROOT / ".mypy_cache").is_dir() else ("--cache-dir", os.devnull)
    lines = run_tool("mypy", *remembered)
    assert lines[-1].startswith("Success"), "\n".join(lines)
