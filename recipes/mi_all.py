"""Short and long answers together, on MusicInstruct (all).

    accelerate launch recipes/mi_all.py --dataset DATA --init_from CAPTIONER
    accelerate launch recipes/mi_all.py --demo

Starts from a captioner (lp_musiccaps_transfer, or a published one through `descant convert`).
"""

from descant.training import Recipe, Stage, train

RECIPE = Recipe(
    name="mi_all",
    stages=(Stage("all", 100),),
)

if __name__ == "__main__":
    train(RECIPE)
