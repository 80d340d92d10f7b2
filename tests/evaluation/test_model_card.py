"""The results in a model's card."""

import json
import logging
import threading

import pytest
from huggingface_hub import ModelCard
from tiny import save_tiny_model

from descant.evaluation.model_card import update_card

RESULT = {
    "model": "m", "dataset": "own", "config": "all", "split": "test", "protocol": "musilingo", "n": 3, "skipped": 0,
    "bleu": 0.5, "intervals": {"bleu": (0.4, 0.6)}, "controls": {}, "verdicts": [], "max_clips": 0,
    "leak": {"checked": True, "clips": 0}, "made_with": {},
}  # fmt: skip


@pytest.fixture
def model(tmp_path):
    return save_tiny_model(tmp_path / "model")


def test_the_card_states_the_result(model) -> None:
    update_card(model, RESULT | {"model": str(model)})
    (stated,) = ModelCard.load(model / "README.md").data.eval_results
    assert (stated.metric_value, stated.dataset_split) == (0.5, "test")
    assert str(model.parent) not in (model / "scores.json").read_text()


def test_a_second_result_on_the_same_data_replaces_the_first(model) -> None:
    for value in (0.5, 0.6):
        update_card(model, RESULT | {"bleu": value})
    update_card(model, RESULT | {"split": "test_grooves"})
    scores = json.loads((model / "scores.json").read_text())
    assert [(one["split"], one["bleu"]) for one in scores] == [("test", 0.6), ("test_grooves", 0.5)]


def test_a_card_of_the_users_own_stays(model, caplog) -> None:
    (model / "README.md").write_text("# Mine\n")
    with caplog.at_level(logging.WARNING):
        update_card(model, RESULT)
    assert (model / "README.md").read_text() == "# Mine\n"
    assert "is your own text" in caplog.text and (model / "scores.json").exists()


@pytest.mark.parametrize(
    "change",
    [{"leak": {"checked": True, "clips": 1}}, {"max_clips": 5}, {"split": "train"}],
    ids=lambda c: next(iter(c)),
)
def test_leaked_partial_and_training_results_are_not_stated(model, change) -> None:
    update_card(model, RESULT | change)
    assert not (model / "scores.json").exists() and not (model / "README.md").exists()


def test_results_of_two_evaluations_that_end_together_both_stay(model) -> None:
    splits = [f"test_{number}" for number in range(4)]
    threads = [threading.Thread(target=update_card, args=(model, RESULT | {"split": split})) for split in splits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one["split"] for one in json.loads((model / "scores.json").read_text())) == splits
