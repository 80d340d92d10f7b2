"""A progress bar on stderr for a stream of answers, where stderr is a terminal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from descant.inference.answers import Answer
    from descant.inference.listener import Asking


def show_progress(asking: "Asking") -> Iterator[tuple[int, "Answer"]]:
    """Passes the answers on and counts them; the total grows with each recording that is opened."""
    with tqdm(desc="answering", unit=" answers", disable=None, leave=False, dynamic_ncols=True) as bar:
        for numbered in asking:
            bar.total = asking.expected
            bar.update()
            yield numbered
