"""Training under `Trainer` and `accelerate`: recipes, curriculum, validation, checkpoints."""

from descant.training.recipe import Recipe, Stage
from descant.training.run import train

__all__ = ["Recipe", "Stage", "train"]
