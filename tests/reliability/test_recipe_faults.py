"""Recipes beside what goes wrong: full and read-only disks, little memory, signals.

The runs are whole recipes of seconds, in this process. Each that broke off is gone on with by the same command, and
ends with the weights of one that nothing stopped.
"""

import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from disks import fill, mount, small_disk
from safetensors.torch import load_file

sys.path.append(str(Path(__file__).parents[1] / "training"))
from tiny_recipe import run_recipe, write_corpus
from transformers import TrainerCallback

from descant import program
from descant.program import Ending
from descant.training import run_folder
from descant.training.recipe import GOES_ON
from descant.training.saving import list_checkpoints
from descant.training.trainer import DescantTrainer

RECIPE = Path(__file__).parents[2] / "recipes" / "mi_short.py"
Prepare = Callable[[DescantTrainer], None]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe") / "corpus"
    write_corpus(folder)
    return folder


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "draw_curve", lambda _, path, __: path.write_bytes(b"drawn"))
    monkeypatch.setattr(program, "GRACE_S", 10_000.0)  # the tests are what would be ended


def run(corpus: Path, output: Path, prepare: Prepare = lambda _: None, **more: object) -> int:
    """Run the recipe as its script does; return the exit status."""
    try:
        with Ending("mi_short_long", GOES_ON):
            run_recipe(corpus, output, prepare, **{"eval_answers": 0, "max_steps": 4, **more})
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Give the weights of a run that nothing stops."""
    output = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_folder, "draw_curve", lambda _, path, __: path.write_bytes(b"drawn"))
        assert run(corpus, output) == 0
    return load_file(output / "model.safetensors")


def require_goes_on(corpus: Path, output: Path, undisturbed: dict) -> None:
    """Require that the same command ends with the weights of a run that nothing stopped."""
    assert run(corpus, output) == 0
    weights = load_file(output / "model.safetensors")
    assert all(weights[name].equal(weight) for name, weight in undisturbed.items())


def at(event: str, act: Callable[[int], None]) -> Prepare:
    """Return what does something at every event of a kind; it is given the step."""

    class Then(TrainerCallback):
        pass

    setattr(Then, event, lambda _, args, state, control, **__: act(state.global_step))
    return lambda trainer: trainer.add_callback(Then())


@contextmanager
def files_grow_no_more() -> Iterator[Callable[[], None]]:
    """Give what fills the disk: from then on no file grows beyond some bytes, until the block ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def sentence(shown: str) -> str:
    """Return the last line, the program's own; nothing before it is a traceback."""
    assert "Traceback" not in shown
    return shown.strip().splitlines()[-1]


# Disks


def test_a_disk_without_room_for_features_is_named(corpus: Path, tmp_path: Path, capsys) -> None:  # D1
    with files_grow_no_more() as stop:
        stop()
        assert run(corpus, tmp_path / "out", features=tmp_path / "features") == 1
    said = sentence(capsys.readouterr().err)
    assert said.startswith(f"mi_short_long: {tmp_path / 'features'}") and "file too large" in said.lower(), said
    assert run(corpus, tmp_path / "out", features=tmp_path / "features") == 0


@pytest.mark.parametrize("event", ["on_save", "on_step_end", "on_train_end"])
def test_a_disk_that_fills_up_later_is_named(  # D4
    event: str, corpus: Path, undisturbed: dict, tmp_path: Path, capsys
) -> None:
    with files_grow_no_more() as stop:
        assert run(corpus, tmp_path / "out", at(event, lambda step: stop() if step >= 2 else None)) == 1
    said = sentence(capsys.readouterr().err)
    assert said.startswith("mi_short_long: ") and str(tmp_path / "out") in said, said
    assert [path.name for path in list_checkpoints(tmp_path / "out")] == {
        "on_save": ["checkpoint-2"], "on_step_end": [], "on_train_end": ["checkpoint-2", "checkpoint-4"]
    }[event]  # fmt: skip
    require_goes_on(corpus, tmp_path / "out", undisturbed)


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/1/nothing"])
@pytest.mark.parametrize("option", ["output_dir", "features"])
def test_a_folder_that_cannot_be_written_is_refused(  # D2, D3
    option: str, place: str, corpus: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "file").touch()
    places = {"output_dir": tmp_path / "out", "features": corpus / "features"} | {option: tmp_path / place}
    assert run(corpus, places["output_dir"], features=places["features"]) == 2
    assert str(tmp_path / place) in sentence(capsys.readouterr().err)


# Signals


@pytest.mark.parametrize(("event", "number", "status", "word"), [
    ("on_save", signal.SIGINT, 130, "interrupted"), ("on_step_begin", signal.SIGTERM, 143, "terminated"),
])  # fmt: skip
def test_a_signal_amid_a_run_is_one_sentence_and_costs_nothing(  # K3, K5
    event: str, number: int, status: int, word: str, corpus: Path, undisturbed: dict, tmp_path: Path, capsys
) -> None:
    interrupt = at(event, lambda step: signal.raise_signal(number) if step == 2 else None)
    assert run(corpus, tmp_path, interrupt) == status
    assert sentence(capsys.readouterr().err) == f"mi_short_long: {word}; {GOES_ON}"
    require_goes_on(corpus, tmp_path, undisturbed)
    assert "missing keys" not in capsys.readouterr().err  # tied weights are missing in every checkpoint


def start(*options: object, **more: object) -> subprocess.Popen:
    command = [sys.executable, str(RECIPE), "--demo", *map(str, options)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **more)


def wait_until_loaded(process: subprocess.Popen, library: str) -> None:
    """Wait until a process has begun to load a library, or has ended."""
    while process.poll() is None and library not in Path(f"/proc/{process.pid}/maps").read_text():
        pass


@pytest.mark.parametrize("library", ["_signal", "libtorch"])
def test_a_signal_while_a_recipe_loads_is_one_sentence(library: str, tmp_path: Path) -> None:  # K4
    with start("--output_dir", tmp_path) as process:
        if library == "_signal":
            wait_until_caught(process)
        else:
            wait_until_loaded(process, library)
        process.send_signal(signal.SIGINT)
        error = process.stderr.read()
    assert (process.returncode, error) == (130, f"mi_short: interrupted; {GOES_ON}\n")


def wait_until_caught(process: subprocess.Popen) -> None:
    """Wait until a process handles signals itself."""
    caught = False
    while process.poll() is None and not caught:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        caught = any(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1 for line in lines if "SigCgt" in line)


# Memory


def test_too_little_memory_for_the_libraries_is_said(tmp_path: Path) -> None:  # R1
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (600_000_000, 600_000_000))

    with start("--output_dir", tmp_path, preexec_fn=limit) as process:
        lines = process.stderr.read().splitlines()
    assert process.returncode == 2 and len(lines) == 2, lines
    assert "0.6 GB of address space (ulimit -v)" in lines[0]
    assert lines[1].startswith("mi_short: a library cannot be loaded: ")


# Real mounts


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as place:
        yield place


@pytest.mark.reliability
@pytest.mark.parametrize("event", ["before", "on_save", "on_train_end"])
def test_a_full_disk_ends_a_recipe_with_a_sentence(  # D1, D4
    event: str, corpus: Path, undisturbed: dict, disk: Path, capsys
) -> None:
    places = {"output": disk / "out", "features": disk / "features"}
    if event == "before":
        fill(disk)
        status = run(corpus, **places)
    else:
        status = run(corpus, **places, prepare=at(event, lambda step: fill(disk) and None))
    said = sentence(capsys.readouterr().err)
    assert status == 1 and str(disk) in said, said
    assert any(reason in said.lower() for reason in ("no space left", "disk is full")), said
    (disk / "filler").unlink()
    assert run(corpus, **places) == 0
    weights = load_file(disk / "out" / "model.safetensors")
    assert all(weights[name].equal(weight) for name, weight in undisturbed.items())


@pytest.mark.reliability
def test_a_read_only_disk_is_refused(corpus: Path, undisturbed: dict, disk: Path, capsys) -> None:  # D2
    mount(disk, "-o", "remount,ro")
    assert run(corpus, disk / "out") == 2
    said = sentence(capsys.readouterr().err)
    assert str(disk / "out") in said and "read-only file system" in said.lower(), said
    mount(disk, "-o", "remount,rw")
    require_goes_on(corpus, disk / "out", undisturbed)
