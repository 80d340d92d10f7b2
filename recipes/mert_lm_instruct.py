"""A music encoder joined to a language model, stage 2: projector and LoRA learn from questions and answers.

    accelerate launch recipes/mert_lm_instruct.py --dataset DATA --init_from STAGE_1
    accelerate launch recipes/mert_lm_instruct.py --demo --init_from outputs/mert_lm_captions-demo

The encoder stays frozen; the language model learns through low-rank matrices (`--lora_rank`, `--lora_targets`). What
is saved is an adapter folder of a few MB, which is loaded onto the two parts.
"""

from descant.training import Recipe, Stage, train
from descant.training.recipe import ModelStart


def import_start() -> ModelStart:
    """Import what builds a new MertLM."""
    from descant.training import start_mert_lm

    return start_mert_lm


RECIPE = Recipe(
    name="mert_lm_instruct",
    stages=(Stage("short", 3),),
    settings={
        "lora": True,
        "lora_rank": 8,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 32,
        "learning_rate": 2e-4,
        "lr_scheduler_kwargs": {"min_lr": 1e-5},
        "warmup_steps": 0.05,
        "weight_decay": 0.05,
        "label_smoothing_factor": 0.0,
        "max_grad_norm": 1.0,
        "rows_per_clip": 8,
    },
    demo={
        "layer_mix": "last",
        "pooling": "mean",
        "tokens_per_state": 10,
        "projector_lr_scale": 0.1,
        "num_train_epochs": 1,
        "max_steps": 120,
        "per_device_train_batch_size": 18,
        "learning_rate": 1.5e-3,
        "lr_scheduler_kwargs": {"min_lr": 1e-5},
        "warmup_steps": 0.05,
        "adam_beta2": 0.999,
        "rows_per_clip": 9,
        "save_epochs": 1,
        "eval_epochs": 1,
        "eval_rows": 72,
        "eval_answers": 36,
    },
    start=import_start,
)

if __name__ == "__main__":
    train(RECIPE)
