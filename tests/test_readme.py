"""The README's commands: each is understood by the program that it calls, and each file that it names is there."""

import re
import shlex
from pathlib import Path

import pytest

from descant.cli import build_parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (descant .+?)(?:\s+#.*)?$", README, flags=re.MULTILINE)


def test_the_readme_is_short_and_opens_with_the_two_commands():
    assert len(README.splitlines()) <= 150
    opening = README.split("## Ask")[0]
    assert "pip install -e . && accelerate launch recipes/mi_short_long.py --demo" in opening
    assert 'pip install -e ".[test]" && pytest' in opening


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_understood(command):
    arguments = build_parser().parse_args(shlex.split(command.split(" > ")[0])[1:])
    assert callable(arguments.func)


def test_there_are_commands_and_the_files_they_name_exist():
    assert len(COMMANDS) >= 6
    named = set(re.findall(r"\b(?:recipes|datasets_scripts|accelerate_configs)/\w+\.(?:py|yaml)", README))
    assert named and all((ROOT / name).is_file() for name in named)


def test_the_recipes_of_the_table_exist():
    names = re.findall(r"`((?:mi|lp)_\w+)`", README.split("| recipe |")[1].split("Hardware")[0])
    assert len(set(names)) >= 7
    assert all((ROOT / "recipes" / f"{name}.py").is_file() for name in names)
