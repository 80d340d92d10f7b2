"""Short answers first, then long ones: the curriculum of MusicInstruct as one job under one schedule.

    accelerate launch recipes/mi_short_long.py --dataset DATA --init_from CAPTIONER
    accelerate launch recipes/mi_short_long.py --demo

Optimizer and schedule carry on from the short stage into the long one. The demo starts from random weights: it spends
most epochs on short answers and keeps them in its second stage, or it would forget them.
"""

from descant.training import Recipe, Stage, train

RECIPE = Recipe(
    name="mi_short_long",
    stages=(Stage("short", 25), Stage("long", 75)),
    demo_stages=(Stage("short", 8), Stage("all", 8)),
)

if __name__ == "__main__":
    train(RECIPE)
