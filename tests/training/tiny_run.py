"""A training run of seconds: a tiny BART on random tokens, with everything that could break an exact resume."""

from pathlib import Path

import torch
from torch.utils.data import Dataset
from transformers import BartConfig, BartForConditionalGeneration, Seq2SeqTrainer, Seq2SeqTrainingArguments, set_seed

from descant.training.saving import AtomicSaving
from descant.training.trainer import FiniteLoss

STEPS = 9


class TinyTrainer(FiniteLoss, AtomicSaving, Seq2SeqTrainer):
    def describe_rows(self, rows: list[int]) -> str:
        return ", ".join(f"clip-{row}" for row in rows)


class RandomTokens(Dataset):
    """Item `row` is drawn from a generator seeded by it."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(row)
        tokens = torch.randint(4, 32, (6,), generator=generator)
        return {"row_index": torch.tensor(row), "input_ids": tokens, "labels": tokens.flip(0)}


def build_model(d_model: int = 8) -> BartForConditionalGeneration:
    set_seed(0)
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    ffn = {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    config = BartConfig(vocab_size=32, d_model=d_model, max_position_embeddings=16, dropout=0.2, **sizes, **ffn)
    return BartForConditionalGeneration(config)


def build_arguments(output_dir: str | Path, **settings: object) -> Seq2SeqTrainingArguments:
    """Accumulation over an epoch's end, label smoothing, a warm-up and validation between the saves."""
    defaults = {
        "max_steps": STEPS, "save_steps": 3, "save_total_limit": 2, "per_device_train_batch_size": 3,
        "gradient_accumulation_steps": 2, "learning_rate": 1e-2, "warmup_steps": 2, "label_smoothing_factor": 0.1,
        "eval_strategy": "steps", "eval_steps": 4, "logging_steps": 2, "logging_nan_inf_filter": False,
        "report_to": "none", "disable_tqdm": True, "use_cpu": True, "remove_unused_columns": False, "seed": 7,
    }  # fmt: skip
    return Seq2SeqTrainingArguments(output_dir=str(output_dir), **(defaults | settings))


def build_trainer(output_dir: str | Path, model: torch.nn.Module | None = None, **settings: object) -> TinyTrainer:
    args = build_arguments(output_dir, **settings)
    return TinyTrainer(model or build_model(), args, train_dataset=RandomTokens(), eval_dataset=EvalRows())


class EvalRows(RandomTokens):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return {key: value for key, value in super().__getitem__(row).items() if key != "row_index"}
