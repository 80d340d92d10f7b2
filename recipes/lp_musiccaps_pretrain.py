"""Captions of ten seconds of music, pre-trained on pseudo captions in tag-balanced draws.

    accelerate launch recipes/lp_musiccaps_pretrain.py --dataset DATA
    accelerate launch recipes/lp_musiccaps_pretrain.py --demo

DATA has captions written from tags (LP-MusicCaps-MSD) and a `tags` column. An epoch is 8,192 draws: a tag first, each
as likely as any other, then one of its clips.
"""

from descant.training import Recipe, Stage, train

RECIPE = Recipe(
    name="lp_musiccaps_pretrain",
    stages=(Stage("captions", 4096),),
    settings={
        "num_train_epochs": 4096,
        "warmup_steps": 125 / 4096,
        "per_device_train_batch_size": 256,
        "max_answer_tokens": 110,
        "draws_per_epoch": 8192,
    },
    demo={"draws_per_epoch": 512},
)

if __name__ == "__main__":
    train(RECIPE)
