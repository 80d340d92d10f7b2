"""Captions of ten seconds of music: MusicCaps after pre-training on pseudo captions.

    accelerate launch recipes/lp_musiccaps_transfer.py --dataset DATA --init_from outputs/lp_musiccaps_pretrain
    accelerate launch recipes/lp_musiccaps_transfer.py --demo

What the recipes of MusicInstruct start from.
"""

from descant.training import Recipe, Stage, train

RECIPE = Recipe(
    name="lp_musiccaps_transfer",
    stages=(Stage("captions", 100),),
    settings={"warmup_steps": 0.2, "per_device_train_batch_size": 64},
)

if __name__ == "__main__":
    train(RECIPE)
