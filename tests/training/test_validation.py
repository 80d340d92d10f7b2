"""Validation: every row once, on any number of processes; answers scored; the model left as it was."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from tiny import build_tiny_model
from torch.nn import functional

from descant.data.annotations import Row
from descant.data.collator import AudioTextCollator
from descant.training import validation
from descant.training.rows import TokenizedRows
from descant.training.validation import Validation

ANSWERS = ("slow piano", "jazz rock", "a loud guitar", "a slow piano and drums", "drums")


class NoiseStore:
    def read(self, clip_id: str, out: np.ndarray | None = None) -> np.ndarray:
        return np.random.default_rng(int(clip_id)).standard_normal((128, 1001), dtype=np.float32)


@pytest.fixture
def measured() -> tuple[Validation, torch.nn.Module]:
    model, processor = build_tiny_model()
    rows = [Row(str(n), "What is the genre?", answer, "genre", "own", 0, 10) for n, answer in enumerate(ANSWERS)]
    collator = AudioTextCollator(NoiseStore(), pad_token_id=1, decoder_start_token_id=2)
    return Validation(TokenizedRows(rows, processor), collator, processor, NoiseStore(), 2, answers=3), model


def process(index: int, count: int) -> SimpleNamespace:
    """One of `count` processes, whose totals are not added to the others'."""
    totals = []

    def reduce(tensor: torch.Tensor, how: str) -> torch.Tensor:
        totals.append(tensor)
        return tensor

    return SimpleNamespace(
        process_index=index, num_processes=count, device=torch.device("cpu"), reduce=reduce, totals=totals
    )


def test_the_loss_is_the_mean_over_the_tokens_of_all_rows(measured):
    checked, model = measured
    batch = checked.collator([checked.rows[row] for row in range(len(ANSWERS))])
    batch.pop("row_index")
    labels = batch.pop("labels")
    expected = functional.cross_entropy(model(**batch).logits.flatten(0, 1), labels.flatten())
    assert checked.loss(model, process(0, 1)) == pytest.approx(float(expected), abs=1e-5)


def test_processes_share_the_rows_without_losing_or_doubling_one(measured):
    checked, model = measured
    alone = process(0, 1)
    checked.loss(model, alone)
    ranks = [process(index, 4) for index in range(4)]
    for rank in ranks:
        checked.loss(model, rank)
    together = sum(rank.totals[0] for rank in ranks)
    torch.testing.assert_close(together, alone.totals[0])


def test_answers_are_scored_and_counted(measured, monkeypatch):
    checked, model = measured
    given = {"0": "slow piano", "1": "folk", "2": "a very loud guitar"}
    asked = []

    def answer_rows(model, processor, rows, features, **_) -> list[str]:
        asked.extend(row.clip_id for row in rows)
        return [given[row.clip_id] for row in rows]

    monkeypatch.setattr(validation, "answer_rows", answer_rows)
    monkeypatch.setattr(validation, "exact_answer", lambda answer, reference, kind: answer == reference)
    scores = checked.score_answers(model, Accelerator(cpu=True))
    assert asked == ["0", "1", "2"]
    assert scores == {"exact": pytest.approx(100 / 3), "answer_words": pytest.approx(7 / 3)}


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_measured_at_rest_and_left_as_it_was(measured, training):
    checked, model = measured
    checked.answers = 0
    model.train(training)
    first = checked.measure(model, Accelerator(cpu=True))
    assert set(first) == {"loss"}
    assert first == checked.measure(model, Accelerator(cpu=True))  # no dropout in it
    assert model.training is training
