"""The model that comes with descant: a saved folder, which every command means where no model is named."""

from pathlib import Path

# The name that stands for the folder, in commands and in what they write.
NAME = "box"
FOLDER = Path(__file__).parent / "pretrained"

__all__ = ["FOLDER", "NAME"]
