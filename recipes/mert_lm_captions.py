"""A music encoder joined to a language model, stage 1: the projector alone learns from captions.

    accelerate launch recipes/mert_lm_captions.py --dataset DATA \
        --audio_encoder m-a-p/MERT-v1-95M --text_model HuggingFaceTB/SmolLM2-135M-Instruct
    accelerate launch recipes/mert_lm_captions.py --demo \
        --audio_encoder outputs/bart --text_model HuggingFaceTB/SmolLM2-135M-Instruct

Both parts stay frozen, and the encoder's states are computed once a clip. MusiLingo's form is `--layer_mix mean
--pooling mean`. The demo's encoder may be the model of `mi_short_long.py --demo --init_from none --output_dir
outputs/bart`: its training clips are the same. The demo without parts joins tiny random ones, and stays deaf.
"""

from descant.training import Recipe, Stage, train
from descant.training.recipe import ModelStart


def import_start() -> ModelStart:
    """Import what builds a new MertLM."""
    from descant.training import start_mert_lm

    return start_mert_lm


RECIPE = Recipe(
    name="mert_lm_captions",
    stages=(Stage("captions", 5),),
    settings={
        "num_train_epochs": 5,
        "per_device_train_batch_size": 16,
        "learning_rate": 1e-4,
        "lr_scheduler_kwargs": {"min_lr": 8e-5},
        "warmup_steps": 0.03,
        "weight_decay": 0.05,
        "label_smoothing_factor": 0.0,
        "max_grad_norm": 1.0,
    },
    demo={
        "layer_mix": "last",
        "pooling": "mean",
        "tokens_per_state": 10,
        "num_train_epochs": 1,
        "max_steps": 12,
        "per_device_train_batch_size": 8,
        "learning_rate": 2e-4,
        "lr_scheduler_kwargs": {"min_lr": 1e-5},
        "warmup_steps": 0.1,
        "adam_beta2": 0.999,
        "rows_per_clip": 1,
        "save_epochs": 1,
        "eval_epochs": 1,
        "eval_rows": 32,
        "eval_answers": 4,
    },
    start=import_start,
)

if __name__ == "__main__":
    train(RECIPE)
