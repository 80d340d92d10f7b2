"""The trainer: `Seq2SeqTrainer` over a curriculum, with exact losses and validation by answers."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel, ProcessorMixin, Seq2SeqTrainer

from descant.data.collator import IGNORED, FeatureReader
from descant.evaluation import exact_answer
from descant.evaluation.controls import answer_rows
from descant.training.curriculum import CurriculumSampler, rows_per_step, validate_nothing
from descant.training.finite_loss import FiniteLoss
from descant.training.fsdp import FullySharded
from descant.training.progress import show_run
from descant.training.saving import AtomicSaving
from descant.training.training_data import TokenizedRows

log = logging.getLogger(__name__)


def smoothed_cross_entropy(smoothing: float) -> Callable[..., torch.Tensor]:
    """The loss function for `Trainer(compute_loss_func=…)`.

    `(1 − ε)·NLL + ε·mean over the vocabulary of −log p`, summed over the label positions that are not −100 and divided
    by `num_items_in_batch` (their count over all accumulated batches and processes), or by this batch's count. The
    form is that of Szegedy et al. 2016 (arXiv 1512.00567, section 7) and of transformers' `LabelSmoother`.
    """

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None) -> torch.Tensor:
        logits = outputs["logits"]  # (batch, tokens, vocabulary)
        total = functional.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100, label_smoothing=smoothing,
            reduction="sum",
        )  # fmt: skip
        return total / (labels.ne(-100).sum() if num_items_in_batch is None else num_items_in_batch)

    return loss


SAMPLES = 3


@dataclass
class Validation:
    """Validation rows with all that is needed to measure a model on them.

    Every row counts exactly once, whatever the number of processes: losses are summed over tokens, answers gathered
    as objects.
    """

    rows: TokenizedRows
    collator: Callable[[Sequence[dict[str, Any]]], dict[str, torch.Tensor]]
    processor: ProcessorMixin
    features: FeatureReader
    batch_size: int
    answers: int

    def measure(self, model: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        """`loss` in nats a token (not smoothed); `exact` in percent and `answer_words` for the answered rows."""
        training = model.training
        model.eval()
        metrics = {"loss": self.loss(model, accelerator)}
        # Under FSDP every forward is a collective: ranks that answer different numbers of questions would hang.
        if self.answers and accelerator.distributed_type != DistributedType.FSDP:
            metrics |= self.score_answers(accelerator.unwrap_model(model), accelerator)
        model.train(training)
        return metrics

    @torch.no_grad()
    def loss(self, model: nn.Module, accelerator: Accelerator) -> float:
        totals = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
        batches = self._batches(len(self.rows), accelerator.num_processes)
        for mine in batches[accelerator.process_index :: accelerator.num_processes]:
            batch = self.collator([self.rows[row] for row in mine or [0]])
            batch = {name: value.to(accelerator.device) for name, value in batch.items() if name != "row_index"}
            labels = batch.pop("labels") if mine else torch.full_like(batch.pop("labels"), IGNORED)
            logits = model(**batch).logits.float()
            loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
            totals += torch.stack([loss.double(), labels.ne(IGNORED).sum().double()])
        total, count = accelerator.reduce(totals, "sum").tolist()
        return total / max(count, 1.0)

    def _batches(self, rows: int, processes: int) -> list[range]:
        """Batches in order, padded with empty ones so that every process runs as many forwards."""
        batches = [range(start, min(start + self.batch_size, rows)) for start in range(0, rows, self.batch_size)]
        return batches + [range(0)] * (-len(batches) % processes)

    def score_answers(self, model: PreTrainedModel, accelerator: Accelerator) -> dict[str, float]:
        """Greedy answers to evenly spread rows; a few are logged."""
        step = max(1, len(self.rows) // self.answers)
        chosen = self.rows.rows[::step][: self.answers]
        mine = chosen[accelerator.process_index :: accelerator.num_processes]
        answers = answer_rows(model, self.processor, mine, self.features, batch_size=self.batch_size, num_beams=1)
        results = [
            (exact_answer(answer, row.answer, row.question_type), len(answer.split()))
            for row, answer in zip(mine, answers, strict=True)
        ]
        if accelerator.is_main_process:
            for row, answer in list(zip(mine, answers, strict=True))[:SAMPLES]:
                log.info("%s | %s -> %s (reference: %s)", row.clip_id, row.question, answer, row.answer)
        results = gather_object(results)
        return {
            "exact": 100 * sum(exact for exact, _ in results) / len(results),
            "answer_words": sum(words for _, words in results) / len(results),
        }


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


def add_lora(model: PreTrainedModel, rank: int, targets: str | None = None) -> PeftModel:
    """Wrap `model` so that only low-rank matrices and the modules it wants whole are trained (Hu et al. 2021).

    targets: a regular expression over module names, in place of the model's own.

    Raises:
        ValueError: the model has no `lora_target_modules`.
    """
    targets = targets or type(model).__dict__.get("lora_target_modules")
    if targets is None:
        raise ValueError(f"--lora: {type(model).__name__} names no lora_target_modules")
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=targets, modules_to_save=type(model).lora_modules_to_save,
        base_model_name_or_path=model.name_or_path or None,
    )  # fmt: skip
    return get_peft_model(model, config)
