"""Captions of ten seconds of music, learnt from MusicCaps alone.

    accelerate launch recipes/lp_musiccaps_supervised.py --dataset DATA
    accelerate launch recipes/lp_musiccaps_supervised.py --demo

Starts from random weights; `--text_init_from facebook/bart-base` starts the text side from BART's.
"""

from descant.training import Recipe, Stage, train

RECIPE = Recipe(
    name="lp_musiccaps_supervised",
    stages=(Stage("captions", 100),),
    settings={"warmup_steps": 0.01, "per_device_train_batch_size": 64},
)

if __name__ == "__main__":
    train(RECIPE)
