"""The model in the box: musicnn's ears, and a small language model made of the project's own words, trained whole.

    python datasets_scripts/make_box_corpus.py --output box --features features --facts corpus/facts.jsonl
    accelerate launch recipes/box.py --dataset box/rows.jsonl

Descriptions and short answers come in one stage. The ears stay frozen, and their states are computed once a clip.
"""

from descant.training import Recipe, Stage, train
from descant.training.recipe import ModelStart


def import_start() -> ModelStart:
    """Import what builds a new MertLM."""
    from descant.training import start_mert_lm

    return start_mert_lm


RECIPE = Recipe(
    name="box",
    stages=(Stage("all", 3),),
    settings={
        "audio_encoder": "musicnn",
        "text_model": "new",
        "layer_mix": "last",
        "pooling": "mean",
        "tokens_per_state": 32,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 256,
        "per_device_eval_batch_size": 256,
        "rows_per_clip": 10,
        "learning_rate": 3e-3,
        "projector_lr_scale": 0.2,
        "lr_scheduler_kwargs": {"min_lr": 1e-5},
        "warmup_steps": 0.1,
        "weight_decay": 0.05,
        "adam_beta2": 0.98,
        "label_smoothing_factor": 0.0,
        "max_grad_norm": 1.0,
        "save_epochs": 1,
        "eval_epochs": 3,
        "eval_answers": 128,
    },
    start=import_start,
)

if __name__ == "__main__":
    train(RECIPE)
