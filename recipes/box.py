"""The model in the box: musicnn's ears, and a small language model made of the project's own words, trained whole.

    python datasets_scripts/make_box_corpus.py --output box --features features --facts corpus/facts.jsonl
    accelerate launch recipes/box.py --dataset box/rows.jsonl
    accelerate launch recipes/box.py --dataset box/rows.jsonl --init_from outputs/box --output_dir outputs/box2 \\
        --num_train_epochs 2 --learning_rate 2e-3 --projector_lr_scale 0.5 --warmup_steps 0.05

Descriptions and short answers come in one stage. The second run goes on from the first, which leaves much unread. The
ears stay frozen, and their states are computed once a clip.
"""

from descant.training import Recipe, Stage, train
from descant.training.recipe import ModelStart


def import_start() -> ModelStart:
    """Import what builds a new MertLM."""
    from descant.training import start_mert_lm

    return start_mert_lm


RECIPE = Recipe(
    name="box",
    stages=(Stage("all", 1),),
    settings={
        "audio_encoder": "musicnn",
        "text_model": "new",
        "layer_mix": "last",
        "pooling": "mean",
        "projector_size": 256,
        "projector_dropout": 0.25,
        "tokens_per_state": 32,
        "num_train_epochs": 1,
        "per_device_train_batch_size": 64,
        "per_device_eval_batch_size": 256,
        "rows_per_clip": 10,
        "learning_rate": 3e-3,
        "projector_lr_scale": 0.1,
        "lr_scheduler_kwargs": {"min_lr": 1e-5},
        "warmup_steps": 0.1,
        "weight_decay": 0.05,
        "adam_beta2": 0.98,
        "label_smoothing_factor": 0.0,
        "max_grad_norm": 1.0,
        "save_epochs": 0.25,
        "eval_epochs": 0.5,
        "eval_answers": 64,
    },
    start=import_start,
)

if __name__ == "__main__":
    train(RECIPE)
