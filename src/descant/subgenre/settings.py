"""The settings of a subgenre training run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from transformers import TrainingArguments

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
    top of them `demo` for the embedded corpus, are fields of `descant.subgenre.settings.SubgenreSettings`.
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


# What decides the weights. A run may go on with another logger or report, never with these changed.
IDENTITY = (
    "dataset", "label_tree", "captioner", "init_from", "text_encoder", "fusion", "hidden_size", "text_hidden_size",
    "text_layers", "vocabulary", "modality_dropout", "token_dropout", "dropout", "window_tokens", "overlap_tokens",
    "train_windows", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
    "learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm", "seed", "max_tracks",
    "lora", "lora_rank", "bf16", "fp16", "mixed_precision", "world_size",
)  # fmt: skip


@dataclass
class SubgenreSettings(TrainingArguments):
    """`transformers.TrainingArguments` plus what descant needs to know of tracks, captioner and classifier."""

    dataset: str | None = field(default=None, metadata={"help": "demo, a folder, or a CSV/JSONL file of tracks"})
    audio_dir: str | None = field(default=None, metadata={"help": "folder of the tracks' audio files"})
    label_tree: str | None = field(default=None, metadata={"help": "JSON file of genres and their subgenres"})
    max_tracks: int = field(default=0, metadata={"help": "use only this many tracks of each split (0: all)"})
    captioner: str | None = field(
        default=None, metadata={"help": "Hub id or folder of the model that captions the audio; the demo trains one"}
    )
    captioner_beams: int = field(default=1, metadata={"help": "search width of the captioner"})
    features: str = field(default="features", metadata={"help": "folder in which what was heard is cached"})
    init_from: str | None = field(default=None, metadata={"help": "Hub id or folder of a classifier to start from"})
    text_encoder: str | None = field(
        default=None, metadata={"help": "Hub id or folder of any AutoModel text encoder (default: a new small one)"}
    )
    text_layers: int = field(default=1, metadata={"help": "transformer layers of a new small text encoder"})
    text_hidden_size: int = field(default=64, metadata={"help": "width of a new small text encoder"})
    vocabulary: int = field(default=4000, metadata={"help": "tokens of a new small text encoder"})
    fusion: str = field(
        default="late", metadata={"help": "how modalities meet", "choices": ["late", "cross_attention"]}
    )
    hidden_size: int = field(default=128, metadata={"help": "width in which the modalities meet"})
    dropout: float = field(default=0.1, metadata={"help": "dropout of the classifier and of a new text encoder"})
    modality_dropout: float = field(
        default=0.3, metadata={"help": "chance that training hides a modality from cross attention"}
    )
    token_dropout: float = field(default=0.0, metadata={"help": "chance that training hides a token of a text"})
    window_tokens: int = field(default=128, metadata={"help": "longest window of text"})
    overlap_tokens: int = field(default=16, metadata={"help": "tokens that neighbouring windows share"})
    train_windows: int = field(
        default=16, metadata={"help": "windows of a text that one training step reads, drawn anew each epoch"}
    )
    lora: bool = field(default=False, metadata={"help": "train LoRA adapters of the text encoder and the fusion only"})
    lora_rank: int = field(default=16, metadata={"help": "rank of the LoRA matrices"})
    resume: str = field(default="auto", metadata={"help": "auto, no, or the path of a checkpoint"})
    compare: bool = field(
        default=True, metadata={"help": "train the single modalities beside it, each with all seeds, for the table"}
    )
    seeds: int = field(default=3, metadata={"help": "seeds of each system in the table, from `seed` on"})
    save_epochs: float = field(default=1.0, metadata={"help": "epochs between checkpoints"})
    eval_epochs: float = field(default=1.0, metadata={"help": "epochs between validations"})
    save_steps: float = field(default=0, metadata={"help": "steps between checkpoints (0: save_epochs decides)"})
    eval_steps: float = field(default=0, metadata={"help": "steps between validations (0: eval_epochs decides)"})
    license: str | None = field(
        default=None, metadata={"help": "licence of the pushed model (default: the strictest of its data)"}
    )
    publish: bool = field(default=False, init=False)
    demo: bool = field(default=False, metadata={"help": "the embedded corpus and a small model"})
    # Filters NaN out of the logged loss at the price of a host sync a step; a NaN must stop the run instead.
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "hide NaN losses in the log"})
    disable_tqdm: bool | None = field(default=False, metadata={"help": "no progress bar"})
    # The collator names what the model needs; there are no columns to remove.
    remove_unused_columns: bool = field(default=False, metadata={"help": "drop batch keys that forward lacks"})


def identity(recipe: SubgenreRecipe, settings: SubgenreSettings) -> dict[str, Any]:
    """The recipe's name, its questions and the settings that decide the weights, as JSON holds them."""
    values = {name: getattr(settings, name) for name in IDENTITY}
    named = {"recipe": recipe.name, "stages": [], "questions": recipe.questions}
    return json.loads(json.dumps(named | values, default=str))
