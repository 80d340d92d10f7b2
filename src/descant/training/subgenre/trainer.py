"""The trainer of the subgenre classifier: `Trainer` over a seeded order of tracks, scored on validation tracks."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import Trainer

from descant.evaluation.labels import GoldLabels, LabelPredictions
from descant.evaluation.labels.scores import genre_accuracy, genre_macro_f1, subgenre_map
from descant.training.atomic_saving import AtomicSaving
from descant.training.curriculum import CurriculumSampler
from descant.training.finite_loss import FiniteLoss
from descant.training.progress import show_run
from descant.training.steps import rows_per_step, validate_nothing
from descant.training.subgenre.examples import ExampleInputs
from descant.training.subgenre.prediction import predict_probabilities

SCORES = {"genre_accuracy": genre_accuracy, "genre_macro_f1": genre_macro_f1, "subgenre_map": subgenre_map}


class SubgenreTrainer(FiniteLoss, AtomicSaving, Trainer):
    """Trains on `ExampleInputs`; `evaluate` scores without thresholds, which are tuned after training."""

    def __init__(self, *, curriculum: CurriculumSampler, gold: GoldLabels | None, **kwargs: Any) -> None:
        """
        curriculum: the order of the training tracks over the whole run. gold: the labels of `eval_dataset`; None where
        there are no validation tracks. kwargs: those of `transformers.Trainer`.
        """
        self.curriculum, self.gold = curriculum, gold
        if gold is None:
            validate_nothing(kwargs["args"])
        super().__init__(**kwargs)
        show_run(self, self.place, "cross entropy (nats a track)")

    def _get_train_sampler(self, train_dataset: Any = None) -> CurriculumSampler:
        return self.curriculum

    def describe_rows(self, rows: list[int]) -> str:
        """The tracks of a batch, for the message of a loss that is not finite."""
        return "tracks " + ", ".join(self.train_dataset.examples[row].track_id for row in rows)

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Cross entropy of all labels (nats a track), genre accuracy and macro-F1, subgenre mAP on validation."""
        if self.gold is None:
            return {}
        metrics = score_probabilities(self.predict_validation(), self.eval_dataset, self.gold)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def predict_validation(self) -> np.ndarray:
        model = self.accelerator.unwrap_model(self.model)
        pad = self.data_collator.pad_token_id
        return predict_probabilities(model, self.eval_dataset, pad, self.args.per_device_eval_batch_size)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """`epoch` counts the curriculum's epochs, not passes over the whole run."""
        logs["stage"], self.state.epoch = self.place()
        super().log(logs, start_time)

    def place(self) -> tuple[str, float]:
        """Stage and epoch reached."""
        return self.curriculum.stage_at(self.state.global_step * rows_per_step(self.args))


def score_probabilities(probabilities: np.ndarray, examples: ExampleInputs, gold: GoldLabels) -> dict[str, float]:
    """`loss` in nats a track, and the scores that need no thresholds."""
    truth = examples.labels
    likely = torch.from_numpy(probabilities).clamp(1e-6, 1 - 1e-6)
    loss = functional.binary_cross_entropy(likely, truth, reduction="none").sum(dim=1).mean()
    genres = len(gold.tree.genres)
    told = LabelPredictions(probabilities[:, :genres], probabilities[:, genres:], np.zeros_like(gold.subgenres))
    weights = np.ones((1, len(truth)))
    return {"loss": float(loss)} | {name: float(score(gold, told)(weights)[0]) for name, score in SCORES.items()}
