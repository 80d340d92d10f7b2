"""Subgenres from lyrics, captions and sound: labels and tracks, training, scores, plain systems to compare with."""

from collections.abc import Sequence

from descant.program import Ending
from descant.subgenre.recipe import SubgenreRecipe
from descant.training.recipe import GOES_ON

__all__ = ["SubgenreRecipe", "train_subgenres"]


def train_subgenres(recipe: SubgenreRecipe, argv: Sequence[str] | None = None) -> None:
    """Run the recipe from the command line; the exit status says how it ended, as for the other recipes."""
    with Ending(recipe.name, GOES_ON) as ending:
        with ending.loading():
            from descant.subgenre.run import run_recipe
        run_recipe(recipe, argv)
