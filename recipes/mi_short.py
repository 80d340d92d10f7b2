"""Short answers about ten seconds of music, on MusicInstruct (short).

    accelerate launch recipes/mi_short.py --dataset DATA --init_from CAPTIONER
    accelerate launch recipes/mi_short.py --demo

Starts from a captioner (lp_musiccaps_transfer, or a published one through `descant convert`).
"""

from descant.training import Recipe, Stage, train

RECIPE = Recipe(
    name="mi_short",
    stages=(Stage("short", 100),),
)

if __name__ == "__main__":
    train(RECIPE)
