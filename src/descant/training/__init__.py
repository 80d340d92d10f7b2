"""Training under `Trainer` and `accelerate`: recipes, curriculum, validation, checkpoints."""

from collections.abc import Sequence

from descant.program import Ending
from descant.training.recipe import GOES_ON, Recipe, Stage

__all__ = ["Recipe", "Stage", "train"]


def train(recipe: Recipe, argv: Sequence[str] | None = None) -> None:
    """Run a recipe from the command line; the exit status says how it ended.

    0 when done, 1 when it broke off (a full disk, a loss that is not finite), 2 when refused, 130 when interrupted,
    143 when terminated, each with one sentence on stderr.
    """
    with Ending(recipe.name, GOES_ON) as ending:
        with ending.loading():
            from descant.training.run import run_recipe
        run_recipe(recipe, argv)
