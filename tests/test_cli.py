"""The command line: quick help, exit status, quiet ends."""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from descant import __version__, cli

COMMANDS = ("download", "features", "ask", "classify", "convert", "evaluate", "score", "compare", "push", "skill")


def test_help_names_the_commands_and_imports_nothing_heavy() -> None:
    code = "import sys; from descant import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n"
    code += "print('heavy:', sorted({'torch', 'transformers', 'numpy', 'huggingface_hub', 'tqdm'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "ask" in shown and "heavy: []" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0 and f"usage: descant {command}" in capsys.readouterr().out


def test_the_page_for_coding_agents_is_printed_or_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["skill"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert cli.main(["skill", "--text"]) == 0
    text = capsys.readouterr().out
    assert text == path.read_text(encoding="utf-8") and text.startswith("---\nname: descant\n")


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    assert ended.value.code == 2 and "descant --help lists them" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_that_cannot_be_written_is_no_success(option: str) -> None:
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "descant.cli", option], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert run.returncode == 1
    assert run.stderr == "descant: stdout: no space left on device: free some space and run the same command again\n"


def test_a_program_ends_with_its_status_after_what_was_registered_for_its_end() -> None:
    command = "atexit.register(print, 'written at the end'), 3"
    script = f"import atexit; from descant import cli; cli.main = lambda: ({command})[1]; cli.start()"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (3, "written at the end\n", "")


@pytest.mark.parametrize(("given", "policy"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(
    given: str | None, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    assert run_command(monkeypatch, lambda args: os.environ["OMP_WAIT_POLICY"] != policy) == 0


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert __version__ in capsys.readouterr().out


def run_command(monkeypatch: pytest.MonkeyPatch, run: Callable[[argparse.Namespace], int]) -> int:
    parser = argparse.ArgumentParser()
    parser.set_defaults(func=run, command="listen", goes_on="")
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    return cli.main([])


def test_an_interrupt_ends_with_130_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    assert run_command(monkeypatch, interrupt) == 130
    assert capfd.readouterr().err == "descant listen: interrupted\n"


def test_the_status_of_the_command_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_command(monkeypatch, lambda args: 1) == 1


def test_a_reader_that_leaves_early_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert run_command(monkeypatch, lambda args: print("line", flush=True) or 0) == 1
