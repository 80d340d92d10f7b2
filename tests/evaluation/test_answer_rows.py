"""Answers to dataset rows, with the right audio and with another clip's; a row that fails leaves the others."""

import numpy as np
import pytest
from tiny import build_tiny_model

from descant.data.annotations import Row
from descant.evaluation.controls import answer_rows

ROWS = [
    Row(f"clip{clip}", question, "jazz", None, "own", 0, 10)
    for clip in range(4)
    for question in ("What is the genre?", None)
]


class Store:
    """Random features by clip."""

    def read(self, clip_id: str, out=None) -> np.ndarray:
        rng = np.random.default_rng(int(clip_id.removeprefix("clip")))
        return rng.normal(-40, 20, size=(128, 1001)).astype(np.float32)


@pytest.fixture(scope="module")
def tiny():
    return build_tiny_model()


def test_answers_come_in_the_order_of_the_rows(tiny) -> None:
    together = answer_rows(*tiny, ROWS, Store(), batch_size=3)
    alone = [answer_rows(*tiny, [row], Store())[0] for row in ROWS]
    assert together == alone and len(set(together)) > 1


def test_another_clip_is_heard_where_a_control_says_so(tiny) -> None:
    own = answer_rows(*tiny, ROWS, Store())
    others = {f"clip{clip}": f"clip{(clip + 1) % 4}" for clip in range(4)}
    heard = answer_rows(*tiny, ROWS, Store(), heard=others)
    assert heard == own[2:] + own[:2] != own


def test_generation_settings_are_passed_on(tiny) -> None:
    texts = answer_rows(*tiny, ROWS, Store(), num_beams=1, max_length=3)
    longer = answer_rows(*tiny, ROWS, Store(), num_beams=1, max_length=8)
    assert max(map(len, texts)) < max(map(len, longer))


def test_a_row_that_fails_is_logged_and_leaves_the_others(tiny, caplog: pytest.LogCaptureFixture) -> None:
    class Damaged(Store):
        def read(self, clip_id: str, out=None) -> np.ndarray:
            if clip_id == "clip1":
                raise ValueError("the record's header is damaged")
            return super().read(clip_id)

    long = Row("clip2", "Which instruments? " * 200, "piano", None, "own", 0, 10)
    texts = answer_rows(*tiny, [*ROWS, long], Damaged())
    own = answer_rows(*tiny, ROWS, Store())
    assert texts == [*own[:2], "", "", *own[4:], ""]
    assert "clip1" in caplog.text and "header is damaged" in caplog.text and "shorten the question" in caplog.text
