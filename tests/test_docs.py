"""README, CONTRIBUTING and the pages of docs/: commands are understood, Python runs, files and links are there."""

import argparse
import importlib.util
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from itertools import dropwhile
from pathlib import Path

import pytest
import yaml
from accelerate.commands.launch import launch_command_parser
from tiny import save_tiny_decider, write_song
from tiny_subgenre import save_tiny_subgenre
from torch.distributed.run import get_args_parser as torchrun_parser

from descant.cli import build_parser
from descant.subgenre.run import read_job as read_subgenre_job
from descant.subgenre.training import SubgenreOptions, SubgenreSettings
from descant.training.recipe import LPMusicCapsOptions, MertLMOptions
from descant.training.run import read_job
from descant.training.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[1]
SKILL = ROOT / "src" / "descant" / "SKILL.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", SKILL, *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
PROGRAMS = ("accelerate", "descant", "pip", "python", "pytest")
# Commands of other programs, which ask nothing of this repository but what other tests check.
OTHERS = (". .venv/bin/activate", "mkdocs build --strict", "mkdocs serve", "ruff check .", "mypy", "pytest")


def blocks(text: str, language: str) -> list[str]:
    return [body for name, body in BLOCK.findall(text) if name == language]


def spans(text: str) -> list[str]:
    """The inline code of a page."""
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", BLOCK.sub("", text))]


def commands_of(text: str) -> Iterator[str]:
    """The commands of a page: those of its shell blocks, and inline code that begins like one and has arguments."""
    for block in blocks(text, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            yield from re.sub(r"\s+#.*", "", line).split(" && ")
    for span in spans(text):
        if span.split()[0] in PROGRAMS and len(span.split()) > 1:
            yield from span.split(" && ")


COMMANDS = sorted({(page, command.strip()) for page, text in TEXTS.items() for command in commands_of(text)})

# Pages whose Python runs in the tests of what it needs: a server, an exported folder.
OTHERS_RUN = ("docs/serve.md", "docs/app.md", "docs/export.md")


class Parsed(Exception):
    """Ends a program when its arguments have been understood."""


@contextmanager
def parsing_only() -> Iterator[None]:
    """Lets a program run until it has parsed its arguments, which it must."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_end(parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        parse(parser, *args, **kwargs)
        raise Parsed

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Parsed):
        patched.setattr(argparse.ArgumentParser, "parse_args", parse_and_end)
        yield


def check_descant(words: list[str]) -> None:
    if len(words) == 1:  # a command by its name alone
        words = [*words, "--help"]
        with pytest.raises(SystemExit) as ended:
            build_parser().parse_args(words)
        assert ended.value.code == 0
    else:
        assert callable(build_parser().parse_args(words).func)


def check_script(words: list[str]) -> None:
    """Let a script or a recipe of the repository parse its arguments."""
    path = ROOT / words[0]
    assert path.is_file(), f"{words[0]} is not there"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", [str(path), *words[1:]])
        patched.syspath_prepend(str(path.parent))
        if "recipes" in path.parts and (recipe := runpy.run_path(str(path)).get("RECIPE")):
            (read_subgenre_job if path.stem == "subgenre" else read_job)(recipe, words[1:])
            return
        with parsing_only():
            runpy.run_path(str(path), run_name="__main__")


def check_python(words: list[str]) -> None:
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1]) is not None, words[1]
    else:
        check_script(words)


def check_accelerate(words: list[str]) -> None:
    args = launch_command_parser().parse_args(words[1:])
    if args.config_file:
        assert (ROOT / args.config_file).is_file(), args.config_file
    if args.module:
        check_descant(args.training_script_args)
    else:
        check_script([args.training_script, *args.training_script_args])


def check_torchrun(words: list[str]) -> None:
    args = torchrun_parser().parse_args(words)
    assert args.module and args.training_script == "descant.cli"
    check_descant(args.training_script_args)


def check_pip(words: list[str]) -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = re.findall(r"\.\[([\w,]+)\]", " ".join(words))
    assert all(set(names.split(",")) <= set(setup["options.extras_require"]) for names in extras), extras


def check_pytest(words: list[str]) -> None:
    """Know the few options of pytest that pages name, and markers by setup.cfg; files are looked for elsewhere."""
    parser = argparse.ArgumentParser()
    for option in ("-n", "-m"):
        parser.add_argument(option)
    args = parser.parse_args([word for word in words if not word.startswith("tests/")])
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert args.m is None or f"{args.m}:" in setup["tool:pytest"]["markers"], args.m


CHECKS = {
    "descant": check_descant, "python": check_python, "accelerate": check_accelerate, "pip": check_pip,
    "pytest": check_pytest, "torchrun": check_torchrun,
}  # fmt: skip


SETTING = re.compile(r"[A-Z][A-Z_]*=\S+")  # of the environment, before a command


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_is_understood(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = list(dropwhile(SETTING.fullmatch, shlex.split(command.split(" > ")[0])))
    if command not in OTHERS:
        assert words[0] in CHECKS, f"{page}: nothing here checks {command}"
        CHECKS[words[0]](words[1:])


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages' Python expects: a song, a table, a captioner, a classifier."""
    folder = tmp_path_factory.mktemp("docs")
    write_song(folder / "song.wav", seconds=12.0)
    (folder / "song.wav").rename(folder / "song.mp3")  # readers go by the content
    (folder / "mine.csv").write_text("audio,question,answer\nsong.mp3,What is the mood?,It is calm.\n")
    captioner = save_tiny_decider(folder / "outputs" / "mi_short_long-demo")
    save_tiny_subgenre(folder / "outputs" / "subgenre", captioner=str(captioner))
    return folder


# The page of the server is run, with its shell, in tests/commands/test_serve.py.
@pytest.mark.parametrize(
    "page", [page for page, text in TEXTS.items() if blocks(text, "python") and page not in OTHERS_RUN]
)
def test_python_runs(page: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(TEXTS[page], "python"):
        exec(compile(block, page, "exec"), names)


@cache
def known_options() -> set[str]:
    """The options of every program that has a parser at hand."""
    subparsers = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    parsers = [*subparsers.choices.values(), launch_command_parser()]
    options = {option for parser in parsers for action in parser._actions for option in action.option_strings}
    kinds = (TrainingSettings, SubgenreSettings, LPMusicCapsOptions, MertLMOptions, SubgenreOptions)
    options |= {f"--{one.name}" for kind in kinds for one in fields(kind)}
    scripts = [*(ROOT / "datasets_scripts").glob("*.py"), ROOT / "tests" / "architecture.py", *SCRIPT_HELPERS]
    return options.union(*(re.findall(r'"(--\w[\w-]*)"', path.read_text(encoding="utf-8")) for path in scripts))


SCRIPT_HELPERS = [ROOT / "src" / "descant" / room for room in ("building/clip_rows.py", "subgenre/dataset.py",
                  "answering/collection.py", "training/settings.py")]  # fmt: skip


@pytest.mark.parametrize("page", TEXTS)
def test_every_option_that_a_page_names_exists(page: str) -> None:
    named = {span.split()[0].split("=")[0] for span in spans(TEXTS[page]) if span.startswith("--")}
    assert named <= known_options()


@pytest.mark.parametrize("page", TEXTS)
def test_files_and_links_that_a_page_names_are_there(page: str) -> None:
    tops = "recipes|datasets_scripts|accelerate_configs|src|tests|docs"
    named = set(re.findall(rf"\b(?:{tops})/[\w/.-]+\.(?:py|yaml|sh|md|toml)\b", TEXTS[page]))
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", BLOCK.sub("", TEXTS[page]))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_what_the_python_reference_names_is_there() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^::: (\S+)\n    options:\n      members: \[(.*)\]$", text, re.MULTILINE)
    assert len(blocks) == text.count("::: ")
    named = [(home, name) for home, names in blocks for name in names.split(", ")]
    assert [(home, name) for home, name in named if not hasattr(importlib.import_module(home), name)] == []


def test_every_page_stands_in_the_navigation() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = {page for part in config["nav"] for pages in part.values() for page in names_in(pages)}
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")}


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs the extra docs; .ci/run builds them too")
def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "site" / "quick-start" / "index.html").is_file()


def names_in(pages: str | list[dict[str, str]]) -> list[str]:
    return [pages] if isinstance(pages, str) else [name for page in pages for name in page.values()]


def test_the_readme_is_one_screen_with_the_two_commands() -> None:
    readme = TEXTS["README.md"]
    assert len(readme.splitlines()) <= 60
    assert "pip install -e . && accelerate launch recipes/mi_short_long.py --demo" in readme
    assert 'pip install -e ".[test]" && pytest' in readme


def test_the_recipes_of_the_table_are_those_of_the_folder() -> None:
    table = TEXTS["docs/recipes.md"].split("| recipe |")[1].split("\n\n")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])}
    assert named == {path.stem for path in (ROOT / "recipes").glob("*.py")}


def test_the_hardware_of_the_table_is_that_of_the_folder() -> None:
    named = set(re.findall(r"`(\w+\.yaml)`", TEXTS["docs/recipes.md"]))
    assert named == {path.name for path in (ROOT / "accelerate_configs").glob("*.yaml")}
