"""The progress bar: it counts what is answered, and shows nothing where stderr is no terminal."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from descant.inference.progress import show_progress


@dataclass
class Terminal(io.StringIO):
    terminal: bool = True

    def __post_init__(self) -> None:
        super().__init__()

    def isatty(self) -> bool:
        return self.terminal


class Answering:
    """Two recordings: the second is opened when the first is done."""

    expected = 2

    def __iter__(self) -> Iterator[tuple[int, str]]:
        for number in range(4):
            self.expected = 2 if number < 2 else 4
            yield number, f"answer {number}"


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_passes_answers_on_and_is_only_for_terminals(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = Terminal(terminal)
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)
    assert list(show_progress(Answering())) == [(number, f"answer {number}") for number in range(4)]
    assert ("answering" in stderr.getvalue()) == terminal

