"""The trainer: `Seq2SeqTrainer` over a curriculum, with exact losses and validation by answers."""

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

import torch
from torch import nn
from transformers import Seq2SeqTrainer

from descant.training.atomic_saving import AtomicSaving
from descant.training.curriculum import CurriculumSampler
from descant.training.finite_loss import FiniteLoss
from descant.training.fsdp import FullySharded
from descant.training.loss import smoothed_cross_entropy
from descant.training.progress import show_run
from descant.training.steps import rows_per_step, validate_nothing
from descant.training.validation import Validation


class DescantTrainer(FiniteLoss, AtomicSaving, FullySharded, Seq2SeqTrainer):
    """Trains any question-answering model of descant on tokenised rows.

    Args:
        curriculum: the order of the training rows over the whole run.
        validation: what `evaluate` measures; None where there are no validation rows.
        kwargs: those of `transformers.Trainer`; `data_collator` gives `row_index` beside the model's inputs.
    """

    def __init__(self, *, curriculum: CurriculumSampler, validation: Validation | None, **kwargs: Any) -> None:
        self.curriculum, self.validation = curriculum, validation
        args = kwargs["args"]
        if validation is None:
            validate_nothing(args)
        loss = smoothed_cross_entropy(args.label_smoothing_factor)
        super().__init__(compute_loss_func=loss, eval_dataset=validation and validation.rows, **kwargs)
        self._set_signature_columns_if_needed()
        self.model_smooths = "label_smoothing" in self._signature_columns
        if self.model_smooths:
            self.compute_loss_func = self.label_smoother = None
        show_run(self, self.place, "cross entropy (nats a token; in training with label smoothing)")

    def _get_train_sampler(self, train_dataset: Any = None) -> CurriculumSampler:
        return self.curriculum

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Trainer's own, with other learning rates of encoder and projector where the settings ask for them."""
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(model)
        for part, scale in self.part_scales().items():
            if fresh and scale != 1.0:
                scale_learning_rate(optimizer, self.find_part(part).parameters(), scale)
        return optimizer

    def part_scales(self) -> dict[str, float]:
        """Part of the model → its share of the learning rate."""
        audio = self.args.audio_lr_scale
        return {
            "audio_encoder.conv_stack": audio,
            "audio_encoder.conv1": audio * self.args.first_conv_lr_scale,
            "projector": self.args.projector_lr_scale,
        }

    def find_part(self, path: str) -> nn.Module:
        """A part of the model, also where an adapter wraps it; raises ValueError where there is none."""
        try:
            return attrgetter(path)(self.model)
        except AttributeError as error:
            raise ValueError(f"this model has no {path}: leave its learning rate's scale at 1") from error

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        """The model's own smoothed loss where its `forward` takes `label_smoothing`: such a model keeps no logits."""
        if self.model_smooths:
            inputs = {**inputs, "label_smoothing": self.args.label_smoothing_factor}
        return super().compute_loss(model, inputs, *args, **options)

    def describe_rows(self, rows: list[int]) -> str:
        """The clips of a batch, for the message of a loss that is not finite."""
        return "clips " + ", ".join(dict.fromkeys(self.train_dataset.rows[row].clip_id for row in rows))

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Loss over the validation rows, and scores of generated answers to some of them."""
        if self.validation is None:
            return {}
        metrics = self.validation.measure(self.model_wrapped, self.accelerator)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the stage; `epoch` counts the curriculum's epochs, not passes over the whole run."""
        logs["stage"], self.state.epoch = self.place()
        super().log(logs, start_time)

    def place(self) -> tuple[str, float]:
        """Stage and epoch reached."""
        return self.curriculum.stage_at(self.state.global_step * rows_per_step(self.args))


def scale_learning_rate(
    optimizer: torch.optim.Optimizer, parameters: Iterable[torch.nn.Parameter], scale: float
) -> None:
    """Move parameters into groups of their own whose learning rate is `scale` times as large."""
    chosen = {id(parameter) for parameter in parameters}
    for group in list(optimizer.param_groups):
        moved = [parameter for parameter in group["params"] if id(parameter) in chosen]
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in chosen]
        if moved:
            optimizer.add_param_group({**group, "params": moved, "lr": scale * group["lr"]})
