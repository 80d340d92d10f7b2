"""The trainers: transformers' own over a curriculum, with exact losses and validation, stopped by a loss that is none.

`CurriculumTrainer` is what every kind of model trains with; `DescantTrainer` trains those that answer questions.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn import functional
from transformers import PreTrainedModel, ProcessorMixin, Trainer, TrainerControl

from descant.data.annotations import Row
from descant.data.collator import IGNORED, FeatureReader
from descant.evaluation import exact_answer
from descant.evaluation.controls import answer_rows
from descant.evaluation.exact import is_closed
from descant.program import BrokeOff
from descant.training.run_folder import show_run
from descant.training.saving import AtomicSaving
from descant.training.training_data import CurriculumSampler, TokenizedRows, rows_per_step, spread_evenly

if TYPE_CHECKING:  # the class that the parts of a trainer are mixed into
    from transformers import Trainer as Base
else:
    Base = object

log = logging.getLogger(__name__)

# Reading a loss makes the host wait for the device, so on an accelerator this many steps are read at once.
STEPS_A_READ = 32
SAMPLES = 3  # answers that are logged at each validation


class NonFiniteLossError(BrokeOff):
    """The loss or the weights became NaN or infinite; the message names the batch."""


class FiniteLoss(Base):
    """Stops at a loss that is not finite; goes before `Trainer` (and before `AtomicSaving`) among the bases.

    A batch may carry `row_index` (batch,): it never reaches the model, and the error names its rows through
    `describe_rows`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._unread: list[tuple[int, torch.Tensor, torch.Tensor | None]] = []  # step, loss, rows
        self._last_rows: torch.Tensor | None = None

    def describe_rows(self, rows: list[int]) -> str:
        """Return what the error says of a batch's rows; a trainer that knows the clips names those."""
        return f"rows {', '.join(map(str, rows))}"

    def train(self, *args: Any, **options: Any) -> Any:
        """Train as the other bases do; a run without checkpoints is looked at when it ends."""
        output = super().train(*args, **options)
        self._require_finite()
        return output

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **options: Any
    ) -> torch.Tensor:
        """Take one step and return its loss, which is checked at once on a CPU, every 32 steps elsewhere."""
        rows = inputs.pop("row_index", None)
        loss = super().training_step(model, inputs, *args, **options)
        self._unread.append((self.state.global_step + 1, loss, rows))
        if loss.device.type == "cpu" or len(self._unread) >= STEPS_A_READ:
            self.require_finite_losses()
        return loss

    def require_finite_losses(self) -> None:
        """Raise `NonFiniteLossError` for the first loss since the last call that is not finite."""
        unread, self._unread = self._unread, []
        if not unread:
            return
        finite = torch.stack([loss for _, loss, _ in unread]).isfinite().tolist()
        for good, (step, loss, rows) in zip(finite, unread, strict=True):
            if not good:
                raise self._error(f"the loss is {loss.item()}", step, rows)
        self._last_rows = unread[-1][2]

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        self._require_finite()
        super()._save_checkpoint(model, trial)

    def _require_finite(self) -> None:
        self.require_finite_losses()
        if not _has_finite_weights(self.model):
            raise self._error("the weights are not finite", self.state.global_step, self._last_rows)

    def _error(self, what: str, step: int, rows: torch.Tensor | None) -> NonFiniteLossError:
        batch = f" on the batch of {self.describe_rows(rows.tolist())}" if rows is not None else ""
        return NonFiniteLossError(
            f"{what} at step {step}{batch}: training stops and the checkpoints written before stay as they are; "
            "look at these rows, or lower the learning rate, and run again"
        )


def _has_finite_weights(model: torch.nn.Module) -> bool:
    """Check all trained weights (of this process's shards) with one read from the device."""
    trained = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
    local = [p.to_local() if isinstance(p, DTensor) else p for p in trained]
    return bool(torch.stack([p.isfinite().all() for p in local]).all())


class FullySharded(Base):
    """Shards and saves under FSDP; goes before `Trainer` among the bases, and changes nothing without FSDP."""

    def _prepare_for_training(self, *args: Any, **options: Any) -> Any:
        require_fsdp2(self.accelerator)
        with embeddings_in_the_root(self.model):
            prepared = super()._prepare_for_training(*args, **options)
        if self.accelerator.is_fsdp2:
            keep_class_name(self.accelerator.unwrap_model(self.model))
        return prepared

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        if state_dict is not None:
            # Gathered from its shards, a tied weight is a tensor of its own under each name.
            tied = self.accelerator.unwrap_model(self.model).all_tied_weights_keys
            state_dict = {name: weight for name, weight in state_dict.items() if name not in tied}
        super()._save(output_dir, state_dict)


def require_fsdp2(accelerator: Accelerator) -> None:
    """Raise ValueError where `accelerate launch` was asked for FSDP and something else would run.

    On the processor, and with one process, accelerate falls back without a word: every process then holds all of the
    model.
    """
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if asked and accelerator.distributed_type != DistributedType.FSDP:
        raise ValueError(
            f"FSDP was asked for, but accelerate runs {accelerator.distributed_type.value} on "
            f"{accelerator.num_processes} × {accelerator.device.type}: give it two or more GPUs, or a configuration "
            "without FSDP"
        )
    if accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ValueError("FSDP of version 1 was asked for: set fsdp_version: 2 in the accelerate configuration")


def keep_class_name(model: torch.nn.Module) -> None:
    """Give the sharded model's class, which torch makes on the fly, the name and module of the model's own.

    `save_pretrained` writes both into `auto_map` and copies that module's file: torch's would be published otherwise.

    Raises:
        ValueError: the model is not sharded.
    """
    if not isinstance(model, FSDPModule):
        raise ValueError(f"FSDP was asked for, but {type(model).__name__} is not sharded")
    own = next(base for base in type(model).__mro__[1:] if not issubclass(base, FSDPModule))
    type(model).__name__, type(model).__module__ = own.__name__, own.__module__


@contextlib.contextmanager
def embeddings_in_the_root(model: torch.nn.Module) -> Iterator[None]:
    """Hide the embeddings from accelerate while it shards `model`.

    accelerate (1.15) puts the input embedding and the head into a group of their own. Where the encoder's and
    decoder's embeddings are tied to them, their common weight would then belong to that group and to the root, which
    torch (2.13) refuses. Hidden, all of them stay in the root group beside whatever is in no layer.
    """
    names = ("get_input_embeddings", "get_output_embeddings")
    for name in names:
        setattr(model, name, lambda: None)
    try:
        yield
    finally:
        for name in names:
            delattr(model, name)


class CurriculumTrainer(FiniteLoss, AtomicSaving, FullySharded, Trainer):
    """Trains on the rows of a curriculum; a subclass's `measure` returns the results of a validation.

    Args:
        curriculum: the order of the training rows over the whole run.
        loss_name: what the curve calls the loss.
        kwargs: those of `transformers.Trainer`; `data_collator` gives `row_index` beside the model's inputs.
    """

    control: TrainerControl

    def __init__(self, *, curriculum: CurriculumSampler, loss_name: str, **kwargs: Any) -> None:
        self.curriculum = curriculum
        super().__init__(**kwargs)
        show_run(self, self.progress, loss_name)

    def _get_train_sampler(self, train_dataset: Any = None) -> CurriculumSampler:
        return self.curriculum

    def measure(self) -> dict[str, float] | None:
        """Return the measures of the model as it is, or None where there is nothing to validate on."""
        raise NotImplementedError

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Return `measure`'s results, logged under the prefix; raise ValueError where another chooses the best."""
        metrics = self.measure()
        if metrics is None:
            return {}
        best = self.args.metric_for_best_model
        if best is not None and best.removeprefix("eval_") not in metrics:
            raise ValueError(f"--metric_for_best_model {best}: a validation gives {', '.join(metrics)}; choose one")
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Add the stage; `epoch` counts the curriculum's epochs, not passes over the whole run."""
        logs["stage"], self.state.epoch = self.progress()
        super().log(logs, start_time)

    def progress(self) -> tuple[str, float]:
        """Return the stage and the epoch that are reached."""
        return self.curriculum.stage_at(self.state.global_step * rows_per_step(self.args))

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # A tied weight is saved under one of its names, and frozen parts not at all; transformers calls them missing.
        trained = {name for name, weight in self.model.named_parameters() if weight.requires_grad}
        expected = trained - set(self.model.all_tied_weights_keys)
        missing = [name for name in load_result.missing_keys if name in expected]
        super()._issue_warnings_after_load(type(load_result)(missing, load_result.unexpected_keys))


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
        """Return `loss` in nats a token (not smoothed), and what `score_answers` does of the answered rows."""
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
        """Return the cross entropy over the rows of all processes, in nats a token."""
        precise = torch.float32 if accelerator.device.type == "mps" else torch.float64  # which Apple's GPUs lack
        totals = torch.zeros(2, dtype=precise, device=accelerator.device)
        batches = self._batches(len(self.rows), accelerator.num_processes)
        for mine in batches[accelerator.process_index :: accelerator.num_processes]:
            batch = self.collator([self.rows[row] for row in mine or [0]])
            batch = {name: value.to(accelerator.device) for name, value in batch.items() if name != "row_index"}
            labels = batch.pop("labels") if mine else torch.full_like(batch.pop("labels"), IGNORED)
            logits = model(**batch).logits.float()
            loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
            totals += torch.stack([loss.to(precise), labels.ne(IGNORED).sum().to(precise)])
        total, count = accelerator.reduce(totals, "sum").tolist()
        return total / max(count, 1.0)

    def _batches(self, rows: int, processes: int) -> list[range]:
        """Return batches in order, padded with empty ones so that every process runs as many forwards."""
        batches = [range(start, min(start + self.batch_size, rows)) for start in range(0, rows, self.batch_size)]
        return batches + [range(0)] * (-len(batches) % processes)

    def score_answers(self, model: PreTrainedModel, accelerator: Accelerator) -> dict[str, float]:
        """Answer evenly spread rows greedily and log a few; return the mean `answer_words` and `exact` in %.

        Exact are answers to questions that are not known to be open, as a caption and a long answer are; without any
        such question among the rows there is no `exact`.
        """
        chosen = [self.rows.rows[index] for index in spread_evenly(range(len(self.rows)), self.answers)]
        mine = chosen[accelerator.process_index :: accelerator.num_processes]
        answers = answer_rows(
            model, self.processor, mine, self.features, batch_size=self.batch_size, num_beams=1, everything=True
        )  # the claims of what the model began from are not its own
        results = [
            (has_exact_answer(row) and exact_answer(answer, row.answer, row.question_type), len(answer.split()))
            for row, answer in zip(mine, answers, strict=True)
        ]
        if accelerator.is_main_process:
            for row, answer in list(zip(mine, answers, strict=True))[:SAMPLES]:
                log.info("%s | %s -> %s (reference: %s)", row.clip_id, row.question, answer, row.answer)
        results = gather_object(results)
        words = {"answer_words": sum(words for _, words in results) / len(results)}
        asked = sum(map(has_exact_answer, chosen))
        return {"exact": 100 * sum(exact for exact, _ in results) / asked, **words} if asked else words


def has_exact_answer(row: Row) -> bool:
    """Return whether a row asks a question whose type, where it is known, is a closed one."""
    return row.question is not None and (row.question_type is None or is_closed(row.question_type))


class DescantTrainer(CurriculumTrainer):
    """Trains any question-answering model of descant on tokenised rows, with the model's own label-smoothed loss.

    Args:
        validation: what `evaluate` measures; None where there are no validation rows.
        part_scales: part of the model → its share of the learning rate.
        kwargs: those of `CurriculumTrainer`.
    """

    def __init__(
        self, *, validation: Validation | None, part_scales: Mapping[str, float] | None = None, **kwargs: Any
    ) -> None:
        self.validation, self.part_scales = validation, dict(part_scales or {})
        loss_name = "cross entropy (nats a token; in training with label smoothing)"
        super().__init__(loss_name=loss_name, eval_dataset=validation and validation.rows, **kwargs)
        self.label_smoother = None  # Trainer's would take the labels away from the model

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Return Trainer's own, with other learning rates of the parts that have a scale."""
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(model)
        for part, scale in self.part_scales.items():
            if fresh and scale != 1.0:
                scale_learning_rate(optimizer, self.find_part(part).parameters(), scale)
        return optimizer

    def find_part(self, path: str) -> nn.Module:
        """Return a part of the model, also where an adapter wraps it; raise ValueError where there is none."""
        try:
            return attrgetter(path)(self.model)
        except AttributeError as error:
            raise ValueError(f"this model has no {path}: leave its learning rate's scale at 1") from error

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        """Return the model's own smoothed loss, for which it keeps no logits."""
        inputs = {**inputs, "label_smoothing": self.args.label_smoothing_factor}
        return super().compute_loss(model, inputs, *args, **options)

    def describe_rows(self, rows: list[int]) -> str:
        """Return the clips of a batch, for the message of a loss that is not finite."""
        return "clips " + ", ".join(dict.fromkeys(self.train_dataset.rows[row].clip_id for row in rows))

    def measure(self) -> dict[str, float] | None:
        """Return the loss over the validation rows, and scores of generated answers to some of them."""
        return self.validation.measure(self.model_wrapped, self.accelerator) if self.validation else None


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
