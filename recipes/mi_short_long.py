"""Short answers first, then long ones: the curriculum of MusicInstruct as one job under one schedule.

    accelerate launch recipes/mi_short_long.py --dataset DATA --init_from CAPTIONER
    accelerate launch recipes/mi_short_long.py --demo
    accelerate launch recipes/mi_short_long.py --demo --init_from none

Optimizer and schedule carry on from the short stage into the long one. The demo starts from the model in the box or,
with `none`, from a small BART's random weights. It keeps short answers in its second stage, or it would forget them.
"""

from descant.training import Recipe, Stage, train
from descant.training.recipe import ModelStart


def import_box_start() -> ModelStart:
    """Import what makes a MertLM, such as the model in the box, ready to train."""
    from descant.training import start_mert_lm

    return start_mert_lm


RECIPE = Recipe(
    name="mi_short_long",
    stages=(Stage("short", 25), Stage("long", 75)),
    demo_stages=(Stage("short", 8), Stage("all", 8)),
    box_start=import_box_start,
    box_stages=(Stage("short", 2), Stage("all", 9)),
)

if __name__ == "__main__":
    train(RECIPE)
