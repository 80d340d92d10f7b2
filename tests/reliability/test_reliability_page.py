"""The page about reliability names tests that exist for every fault that was tried, and counts verdicts rightly."""

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = re.split(r"^### ", (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
ROW = re.compile(r"^\| (\w+) \| (.+) \| (held|mended|refused|kept) \| (.+) \|$", re.MULTILINE)
SHOWN_BY = re.compile(r"([\w ]+) \(`(test_\w+)`\)")
ROWS = [row for section in SECTIONS for row in ROW.findall(section)]
COUNTS = [84, 18, 17]


@cache
def names_in(module: str) -> set[str]:
    (path,) = (ROOT / "tests").rglob(f"{module}.py")
    return set(re.findall(r"^def test_(\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize(("number", "what", "verdict", "shown"), ROWS, ids=[row[0] for row in ROWS])
def test_a_row_is_shown_by_tests_that_exist(number: str, what: str, verdict: str, shown: str) -> None:
    for one in shown.split("; "):
        named = SHOWN_BY.fullmatch(one)
        assert named, one
        assert named[1].replace(" ", "_") in names_in(named[2]), one


def test_every_row_is_there_and_counted() -> None:
    assert len({row[0] for row in ROWS}) == sum(COUNTS)
    for section, count in zip(SECTIONS, COUNTS, strict=True):
        verdicts = Counter(row[2] for row in ROW.findall(section))
        told = {name: int(many) for many, name in re.findall(r"(\d+) (\w+)[,)]", section.splitlines()[0])}
        assert told == verdicts and verdicts.total() == count == len(re.findall(r"^\| [A-Z]\d+ ", section, re.M))
