"""A loss that is not finite stops the run and saves nothing."""

import pytest
import torch
from tiny_run import build_trainer
from transformers import TrainerCallback

from descant.training.saving import find_problem, list_checkpoints
from descant.training.trainer import NonFiniteLossError


class Spoil(TrainerCallback):
    """Makes one weight NaN or infinite once `step` steps are done."""

    def __init__(self, step, value):
        self.step, self.value = step, value

    def on_step_end(self, args, state, control, model, **_):
        if state.global_step == self.step:
            with torch.no_grad():
                model.model.shared.weight[5:] = self.value


def run(tmp_path, step, value):
    trainer = build_trainer(tmp_path)
    trainer.add_callback(Spoil(step, value))
    with pytest.raises(NonFiniteLossError) as caught:
        trainer.train(resume_from_checkpoint="auto")
    kept = list_checkpoints(tmp_path)
    assert [(path.name, find_problem(path)) for path in kept] == [("checkpoint-3", None)]
    return str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_stops_the_run_with_the_clips_of_its_batch(tmp_path, value):
    message = run(tmp_path, step=4, value=value)
    assert message.startswith("the loss is nan at step 5 on the batch of clip-")
    assert message.count("clip-") == 3


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    message = run(tmp_path, step=6, value=float("nan"))
    assert message.startswith("the weights are not finite at step 6 on the batch of clip-")


def test_losses_read_together_name_the_first_bad_batch(tmp_path, monkeypatch):
    trainer = build_trainer(tmp_path)
    losses, rows = [1.0, float("nan"), float("nan")], [[1], [2], [3]]
    trainer._unread = [
        (n, torch.tensor(loss), torch.tensor(r)) for n, (loss, r) in enumerate(zip(losses, rows, strict=True))
    ]
    with pytest.raises(NonFiniteLossError, match="at step 1 on the batch of clip-2:"):
        trainer.require_finite_losses()


def test_row_index_does_not_reach_the_model(tmp_path):
    # BART's forward takes no `row_index`: a step with it would fail.
    trainer = build_trainer(tmp_path, max_steps=1)
    assert trainer.train(resume_from_checkpoint="no").global_step == 1
