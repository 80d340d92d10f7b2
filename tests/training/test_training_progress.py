"""The progress bar's line, the log on disk and the curve."""

import json
from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from descant.training.run_folder import ProgressBar, RunLog, draw_curve

HISTORY = [{"loss": 2.5, "step": 1}, {"loss": 2.0, "step": 2}, {"eval_loss": 1.5, "step": 2}]


def place() -> tuple[str, float]:
    return "long", 2.25


def arguments(**changes) -> SimpleNamespace:
    values = {
        "disable_tqdm": False, "per_device_train_batch_size": 8, "world_size": 1, "gradient_accumulation_steps": 1,
    }  # fmt: skip
    return SimpleNamespace(**{**values, **changes})


def test_the_bar_shows_stage_epoch_losses_and_learning_rate(capsys):
    bar, args, state = ProgressBar(place), arguments(), TrainerState(global_step=4, max_steps=10)
    bar.on_train_begin(args, state, TrainerControl())
    state.global_step = 6
    bar.on_step_end(args, state, TrainerControl())
    bar.on_log(args, state, TrainerControl(), logs={"loss": 2.34567, "learning_rate": 1e-4})
    bar.on_log(args, state, TrainerControl(), logs={"eval_loss": 1.5})
    assert (bar.bar.n, bar.bar.total) == (6, 10)  # a resumed run counts on
    bar.on_train_end(args, state, TrainerControl())
    shown = capsys.readouterr().err
    for part in ("long epoch 2.2", "loss=2.346", "lr=1.0e-04", "val=1.500", "rows/s="):
        assert part in shown


@pytest.mark.parametrize(("quiet", "first"), [(True, True), (False, False)])
def test_no_bar_where_it_is_not_wanted_or_another_process_shows_it(capsys, quiet, first):
    bar, args = ProgressBar(place), arguments(disable_tqdm=quiet)
    state = TrainerState(max_steps=10, is_world_process_zero=first)
    bar.on_train_begin(args, state, TrainerControl())
    bar.on_step_end(args, state, TrainerControl())
    bar.on_log(args, state, TrainerControl(), logs={"loss": 1.0, "learning_rate": 1.0})
    bar.on_train_end(args, state, TrainerControl())
    assert capsys.readouterr().err == ""


def test_the_log_holds_the_whole_history_once(tmp_path):
    log, args = RunLog("cross entropy"), arguments(output_dir=str(tmp_path / "run"))
    log.on_evaluate(args, TrainerState(log_history=HISTORY[:1]), TrainerControl())
    log.on_train_end(args, TrainerState(log_history=HISTORY), TrainerControl())
    lines = (tmp_path / "run" / "training_log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == HISTORY
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"training_log.jsonl", "loss.png"}


def test_another_process_writes_nothing(tmp_path):
    state = TrainerState(log_history=HISTORY, is_world_process_zero=False)
    RunLog("cross entropy").on_train_end(arguments(output_dir=str(tmp_path / "run")), state, TrainerControl())
    assert not (tmp_path / "run").exists()


def test_the_curve_is_a_picture_that_grows_with_what_is_drawn(tmp_path):
    sizes = []
    for number, history in enumerate(([], HISTORY)):
        draw_curve(history, tmp_path / f"{number}.png", "cross entropy")
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")
        sizes.append((tmp_path / f"{number}.png").stat().st_size)
    assert sizes[1] > sizes[0]
