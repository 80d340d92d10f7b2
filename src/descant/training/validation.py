"""What a run measures on validation rows: their loss, and how well it answers some of them."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel, ProcessorMixin

from descant.data.collator import IGNORED, FeatureReader
from descant.evaluation import exact_answer
from descant.evaluation.answering import answer_rows
from descant.training.rows import TokenizedRows

log = logging.getLogger(__name__)
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
