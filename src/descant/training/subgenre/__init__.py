"""Training of the subgenre classifier, and its table beside plain systems."""

from descant.training.subgenre.recipe import SubgenreRecipe
from descant.training.subgenre.run import train_subgenres

__all__ = ["SubgenreRecipe", "train_subgenres"]
