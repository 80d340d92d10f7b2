"""The faults of the wire against commands in processes of their own, with the true patience of every library."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub import LocalHub
from tiny import save_tiny_model, write_song

pytestmark = pytest.mark.reliability

MODEL = "tester/m"
WEIGHTS = "GET .*/resolve/.*/model.safetensors"
LASTING = {
    "silent from the first byte": ("silent", ".", "no answer in 1 s"),
    "silent amid the weights": ("stalled", WEIGHTS, "no answer in 1 s"),
    "reset amid the weights": ("reset", WEIGHTS, "could not be reached in 5 attempts"),
    "weights cut short": ("short", WEIGHTS, "could not be reached in 5 attempts"),
    "weights changed": ("corrupt", WEIGHTS, "model.safetensors arrived damaged twice"),
    "busy": ("503", ".", "could not be reached in 5 attempts (status 503"),
    "redirects in a circle": ("loop", ".", "redirects in a circle"),
    "a page to log in": ("html", ".", "does not answer as a Hub does"),
    "no token": ("401", ".", "`hf auth login`"),
    "a token without the right": ("403", ".", "`hf auth login`"),
    "nothing there": ("404", ".", ""),
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    """Give a Hub that holds a model."""
    with LocalHub() as hub:
        folder = save_tiny_model(tmp_path_factory.mktemp("pushed") / "m")
        code = (
            "import huggingface_hub, sys; api = huggingface_hub.HfApi(); "
            f"api.create_repo('{MODEL}'); api.upload_folder(repo_id='{MODEL}', folder_path=sys.argv[1])"
        )
        assert hub.run(folder.parent / "home", "-c", code, str(folder)).returncode == 0
        yield hub


def ask(hub: LocalHub, home: Path, kind: str = "") -> tuple[int, str, str]:
    """Ask the model about a song; return the exit status and what was printed.

    kind: the fault; where it is silence, an answer is waited for shortly, which on a busy machine may come late.
    """
    hub.requests.clear()
    song = write_song(home / "song.wav", 10.0)
    environment = hub.environment(home / "hub")
    if kind in ("silent", "stalled"):
        environment |= {"HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1"}
    arguments = ["-m", "descant.cli", "ask", MODEL, str(song), "-q", "What is the genre?"]
    done = hub.run(home, *arguments, environment=environment, timeout=300)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("kind", "where", "said"), LASTING.values(), ids=LASTING)
def test_a_fault_that_stays_is_one_sentence(hub: LocalHub, tmp_path: Path, kind: str, where: str, said: str) -> None:
    hub.faults.clear()
    hub.fail(kind, where, times=10_000)
    status, out, err = ask(hub, tmp_path, kind)
    (line,) = [line for line in err.splitlines() if line.startswith("descant ask: ")]
    assert (status, out) == (2, "") and said in line and MODEL in line and "Traceback" not in err


@pytest.fixture(scope="module")
def wanted(hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the answer of a healthy Hub's model."""
    hub.faults.clear()
    return ask(hub, tmp_path_factory.mktemp("healthy"))[1].partition("  ")[2]


@pytest.mark.parametrize("kind", ["503", "429", "reset", "short", "stalled", "silent", "corrupt"])
def test_a_fault_that_passes_leaves_the_answer(hub: LocalHub, wanted: str, tmp_path: Path, kind: str) -> None:
    hub.faults.clear()
    hub.fail(kind, WEIGHTS, times=1 if kind == "corrupt" else 3)
    status, out, err = ask(hub, tmp_path, kind)
    assert status == 0 and wanted and out.partition("  ")[2] == wanted and "Traceback" not in err, err
    assert not hub.faults[0].times
