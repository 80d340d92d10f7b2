"""The loss, finite or not, trackers, learning rates by part, adapters on the named modules, and tokenised rows."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import tiny_run
import torch
from accelerate import Accelerator
from tiny import build_tiny_model
from tiny_mert_lm import join_tiny, save_parts
from torch.nn import functional
from torch.nn.modules.module import _IncompatibleKeys
from transformers import PreTrainedModel, Trainer, TrainerCallback

from descant.data.annotations import Row
from descant.data.collator import AudioTextCollator
from descant.models.lp_music_caps import LPMusicCapsFeatureExtractor, LPMusicCapsProcessor
from descant.training import settings, trainer
from descant.training.recipe import MertLMOptions, Recipe, Stage
from descant.training.run import read_job
from descant.training.saving import find_problem, list_checkpoints
from descant.training.start import add_lora, train_tokenizer
from descant.training.trainer import DescantTrainer, NonFiniteLossError, Validation, scale_learning_rate
from descant.training.training_data import CurriculumSampler, StagePlan, TokenizedRows, concatenate_configs, plan_steps


def test_chosen_parameters_get_a_share_of_the_learning_rate_and_none_is_lost():
    layers = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))
    optimizer = torch.optim.AdamW(layers.parameters(), lr=0.1)
    scale_learning_rate(optimizer, layers[0].parameters(), 0.5)
    rates = {id(one): group["lr"] for group in optimizer.param_groups for one in group["params"]}
    assert [rates[id(one)] for one in layers.parameters()] == pytest.approx([0.05, 0.05, 0.1, 0.1, 0.1, 0.1])


def test_a_projector_learns_at_its_share_of_the_rate_beside_adapters(tmp_path):
    model, _ = join_tiny(save_parts(tmp_path / "parts"))
    scales = MertLMOptions(projector_lr_scale=0.1).part_scales()
    trainer = build_trainer(tmp_path, "--learning_rate", "0.01", model=add_lora(model, rank=2), part_scales=scales)
    optimizer = trainer.create_optimizer()
    rates = {id(one): group["lr"] for group in optimizer.param_groups for one in group["params"]}
    trained = [(name, one) for name, one in trainer.model.named_parameters() if one.requires_grad]
    found = {"projector" in name: rates[id(one)] for name, one in trained}
    assert found == {True: pytest.approx(0.001), False: 0.01}


def test_a_share_for_a_part_that_the_model_lacks_is_refused(tmp_path):
    with pytest.raises(ValueError, match="this model has no projector: leave its learning rate's scale at 1"):
        build_trainer(tmp_path, part_scales={"projector": 0.1}).create_optimizer()


def test_only_what_trains_is_missed_in_a_checkpoint(tmp_path, monkeypatch):
    missed = []
    monkeypatch.setattr(Trainer, "_issue_warnings_after_load", lambda self, result: missed.extend(result.missing_keys))
    tiny = build_trainer(tmp_path)
    names = [name for name, _ in tiny.model.named_parameters() if "layer_norm" in name][:2]
    tiny.model.get_parameter(names[0]).requires_grad_(False)  # checkpoints have none that are frozen
    tiny._issue_warnings_after_load(_IncompatibleKeys([*names, *tiny.model.all_tied_weights_keys], []))
    assert missed == [names[1]]


def test_a_best_model_by_what_is_not_measured_is_refused_in_one_sentence(tmp_path, monkeypatch):
    trainer = build_trainer(tmp_path, "--metric_for_best_model", "accuracy")
    monkeypatch.setattr(trainer, "measure", lambda: {"loss": 1.0, "exact": 50.0})
    with pytest.raises(ValueError, match="--metric_for_best_model accuracy: a validation gives loss, exact"):
        trainer.evaluate()


class Recorder(TrainerCallback):
    """Stands in for a tracker's callback."""

    logged: ClassVar[list[dict[str, Any]]] = []

    def on_log(self, args, state, control, logs: dict[str, Any], **_: Any) -> None:
        self.logged.append(logs)


def build_trainer(
    tmp_path: Path, *flags: str, model: PreTrainedModel | None = None, part_scales: dict[str, float] | None = None
) -> DescantTrainer:
    plan = StagePlan("short", np.arange(4), 1)
    curriculum = CurriculumSampler([plan], np.arange(4), np.ones(4), batch_size=2)
    recipe = Recipe("mi_short", (Stage("short", 1),))
    args = read_job(recipe, ["--demo", "--use_cpu", "--output_dir", str(tmp_path), *flags]).settings
    return DescantTrainer(
        curriculum=curriculum, validation=None, part_scales=part_scales, model=model or build_tiny_model()[0],
        args=plan_steps(args, curriculum, validated=False),
    )  # fmt: skip


def test_a_tracker_is_told_what_is_logged(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "get_available_reporting_integrations", lambda: ["trackio"])
    monkeypatch.setitem(settings.INTEGRATION_TO_CALLBACK, "trackio", Recorder)
    build_trainer(tmp_path, "--report_to", "trackio").log({"loss": 1.5})
    assert (Recorder.logged[-1]["loss"], Recorder.logged[-1]["stage"]) == (1.5, "short")


def test_the_loss_is_the_model_s_own_smoothed_one(tmp_path):
    trainer = build_trainer(tmp_path, "--label_smoothing_factor", "0.3")
    batch = {
        "input_features": torch.randn(2, 128, 1001),
        "labels": torch.tensor([[0, 9, 2], [0, 2, -100]]),
    }
    with torch.no_grad():
        loss, outputs = trainer.compute_loss(trainer.model.eval(), batch, True, num_items_in_batch=torch.tensor(10))
        logits = trainer.model(**batch).logits
    expected = functional.cross_entropy(
        logits.flatten(0, 1), batch["labels"].flatten(), label_smoothing=0.3, reduction="sum"
    )
    torch.testing.assert_close(loss, expected / 10)
    assert outputs.logits is None


def test_lora_trains_adapters_and_the_audio_encoder_alone():
    model, _ = build_tiny_model()
    trained = {name for name, weight in add_lora(model, rank=2).named_parameters() if weight.requires_grad}
    assert trained
    assert all("lora_" in name or "audio_encoder" in name for name in trained)
    assert any("encoder_attn.q_proj" in name for name in trained)


def test_a_model_that_names_no_modules_is_refused():
    with pytest.raises(ValueError, match="names no lora_target_modules"):
        add_lora(torch.nn.Linear(2, 2), rank=2)


@pytest.mark.parametrize("lora", [False, True])
def test_every_label_of_a_mert_lm_counts_also_over_accumulated_batches(tmp_path, lora):
    model, processor = join_tiny(save_parts(tmp_path / "parts"))
    model = add_lora(model, rank=2) if lora else model
    trainer = build_trainer(tmp_path / "out", "--label_smoothing_factor", "0.1", model=model)
    prompts = {name: torch.tensor(value) for name, value in processor.build_prompts(["Fast?", "Slow?"]).items()}
    labels = torch.tensor([[9, 8, 2], [7, 2, -100]])
    whole = {"input_features": torch.randn(2, 24_000), **prompts, "labels": labels}
    rows = [{name: value[row : row + 1] for name, value in whole.items()} for row in range(2)]
    batches, count = trainer.get_batch_samples(iter(rows), 2, trainer.args.device)
    assert count == labels.ne(-100).sum()
    with torch.no_grad():
        losses = [trainer.compute_loss(model, batch, num_items_in_batch=count) for batch in batches]
        torch.testing.assert_close(sum(losses), trainer.compute_loss(model, whole))


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
    given = {"0": "slow piano", "2": "a very loud guitar", "4": "drums"}
    asked = []

    def answer_rows(model, processor, rows, features, **_) -> list[str]:
        asked.extend(row.clip_id for row in rows)
        return [given[row.clip_id] for row in rows]

    monkeypatch.setattr(trainer, "answer_rows", answer_rows)
    monkeypatch.setattr(trainer, "exact_answer", lambda answer, reference, kind: answer == reference)
    scores = checked.score_answers(model, Accelerator(cpu=True))
    assert asked == ["0", "2", "4"]  # spread evenly
    assert scores == {"exact": pytest.approx(200 / 3), "answer_words": pytest.approx(7 / 3)}
    rows = checked.rows.rows
    rows[0], rows[2] = replace(rows[0], question=None), replace(rows[2], question_type="long_form")
    assert checked.score_answers(model, Accelerator(cpu=True))["exact"] == 100  # of the one that has an exact answer
    rows[4] = replace(rows[4], question=None)
    assert checked.score_answers(model, Accelerator(cpu=True)) == {"answer_words": pytest.approx(7 / 3)}


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_measured_at_rest_and_left_as_it_was(measured, training):
    checked, model = measured
    checked.answers = 0
    model.train(training)
    first = checked.measure(model, Accelerator(cpu=True))
    assert set(first) == {"loss"}
    assert first == checked.measure(model, Accelerator(cpu=True))  # no dropout in it
    assert model.training is training


class Spoil(TrainerCallback):
    """Makes one weight NaN or infinite once `step` steps are done."""

    def __init__(self, step, value):
        self.step, self.value = step, value

    def on_step_end(self, args, state, control, model, **_):
        if state.global_step == self.step:
            with torch.no_grad():
                model.model.shared.weight[5:] = self.value


def run(tmp_path, step, value):
    trainer = tiny_run.build_trainer(tmp_path)
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


def test_weights_that_are_not_finite_end_a_run_without_checkpoints_too(tmp_path):
    trainer = tiny_run.build_trainer(tmp_path, save_strategy="no", eval_strategy="no", max_steps=2)
    trainer.add_callback(Spoil(2, float("nan")))
    with pytest.raises(NonFiniteLossError, match="the weights are not finite at step 2 on the batch of clip-"):
        trainer.train()


def test_losses_read_together_name_the_first_bad_batch(tmp_path, monkeypatch):
    trainer = tiny_run.build_trainer(tmp_path)
    losses, rows = [1.0, float("nan"), float("nan")], [[1], [2], [3]]
    trainer._unread = [
        (n, torch.tensor(loss), torch.tensor(r)) for n, (loss, r) in enumerate(zip(losses, rows, strict=True))
    ]
    with pytest.raises(NonFiniteLossError, match="at step 1 on the batch of clip-2:"):
        trainer.require_finite_losses()


def test_row_index_does_not_reach_the_model(tmp_path):
    # BART's forward takes no `row_index`: a step with it would fail.
    trainer = tiny_run.build_trainer(tmp_path, max_steps=1)
    assert trainer.train(resume_from_checkpoint="no").global_step == 1


ROWS = [
    Row("a", "What is heard?", "A piano and a very long flute solo.", None, "own", 0, 10),
    Row("b", "What is heard?", "Drums.", None, "own", 0, 10),
    Row("a", None, "A piano plays.", None, "own", 0, 10),
]
TOKENIZER = train_tokenizer([row.answer for row in ROWS] + ["What is heard?"])
PROCESSOR = LPMusicCapsProcessor(LPMusicCapsFeatureExtractor(), TOKENIZER)


def test_answers_are_cut_without_losing_their_end():
    item = TokenizedRows(ROWS, PROCESSOR, max_answer_tokens=5)[0]
    assert len(item["label_ids"]) == 5
    assert (item["label_ids"][0], item["label_ids"][-1]) == (TOKENIZER.bos_token_id, TOKENIZER.eos_token_id)


def test_answers_that_are_cut_are_counted_and_the_first_is_named(caplog):
    length = len(TokenizedRows(ROWS, PROCESSOR).labels[2])
    TokenizedRows(ROWS, PROCESSOR, max_answer_tokens=length).warn_of_cut()
    assert f"1 of 3 answers are longer than {length} tokens and are cut there, that of a first" in caplog.text
    caplog.clear()
    TokenizedRows(ROWS, PROCESSOR).warn_of_cut()
    assert not caplog.text


def test_a_row_that_fills_a_batch_has_no_label_that_counts():
    rows = TokenizedRows(ROWS, PROCESSOR)
    filling = rows[1, -1 - 7]
    assert filling["epoch"] == 7 and (filling["label_ids"] == -100).all()
    assert len(filling["label_ids"]) == len(rows[1]["label_ids"]) and (rows[1]["label_ids"] >= 0).all()


def test_an_item_holds_the_question_and_the_epoch_it_is_asked_for():
    rows = TokenizedRows(ROWS, PROCESSOR)
    assert rows[1, 7]["epoch"] == 7 and rows[1]["epoch"] is None
    assert TOKENIZER.decode(rows[1]["prompt_ids"], skip_special_tokens=True) == "What is heard?"
    assert rows[2]["prompt_ids"] is None


def test_rows_of_a_clip_have_one_number():
    assert TokenizedRows(ROWS, PROCESSOR).clip_numbers.tolist() == [0, 1, 0]


def test_configurations_keep_their_rows_apart():
    rows, indices = concatenate_configs({"short": ROWS[:2], "long": ROWS[2:]})
    assert rows == ROWS
    assert [index.tolist() for index in indices.values()] == [[0, 1], [2]]
    assert np.array_equal(TokenizedRows(rows, PROCESSOR).lengths > 2, [True] * 3)
