"""Long answers about ten seconds of music, on MusicInstruct (long).

    accelerate launch recipes/mi_long.py --dataset DATA --init_from CAPTIONER
    accelerate launch recipes/mi_long.py --demo

Starts from a captioner (lp_musiccaps_transfer, or a published one through `descant convert`).
"""

from descant.training import Recipe, Stage, train

RECIPE = Recipe(
    name="mi_long",
    stages=(Stage("long", 100),),
)

if __name__ == "__main__":
    train(RECIPE)
