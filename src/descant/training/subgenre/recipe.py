"""What the subgenre recipe is: its name, what the captioner is asked, and its settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

SHARED_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "num_train_epochs": 10,
        "warmup_steps": 0.1,
        "per_device_train_batch_size": 32,
        "per_device_eval_batch_size": 64,
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.05,
        "max_grad_norm": 1.0,
        "seed": 42,
        "save_total_limit": 2,
        "save_strategy": "epoch",
        "eval_strategy": "epoch",
        "logging_steps": 20,
    }
)


@dataclass(frozen=True)
class SubgenreRecipe:
    """A training job on tracks.

    `questions` are asked of every window; their answers are the captions that the classifier reads. `settings`, and on
    top of them `demo` for the embedded corpus, are fields of `descant.training.subgenre.settings.SubgenreSettings`.
    """

    name: str
    questions: tuple[str | None, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    demo: Mapping[str, Any] = field(default_factory=dict)

    def defaults(self, demo: bool) -> dict[str, Any]:
        """The settings before a YAML file and the command line are read."""
        settings = {**SHARED_SETTINGS, "output_dir": f"outputs/{self.name}", **self.settings}
        if demo:
            settings |= {"dataset": "demo", "output_dir": f"outputs/{self.name}-demo", **self.demo}
        return settings
