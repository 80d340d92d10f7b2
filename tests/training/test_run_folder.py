"""The output folder: one run, and no other."""

import pytest

from descant.training.arguments import parse_settings
from descant.training.recipe import Recipe, Stage
from descant.training.run_folder import check_run_folder, claim_run_folder

RECIPE = Recipe("some_recipe", (Stage("short", 100),))


def settings(folder, *more: str):
    return parse_settings(RECIPE, ["--demo", "--output_dir", str(folder), *more])


def claim(folder) -> None:
    claim_run_folder(str(folder), check_run_folder(RECIPE, settings(folder)))


def test_the_same_run_goes_on(tmp_path):
    claim(tmp_path)
    check_run_folder(RECIPE, settings(tmp_path, "--logging_steps", "3"))


def test_another_run_is_refused_by_the_setting_that_differs(tmp_path):
    claim(tmp_path)
    with pytest.raises(ValueError, match="learning_rate = 0.002, this one has 0.1: choose another --output_dir"):
        check_run_folder(RECIPE, settings(tmp_path, "--learning_rate", "0.1"))
    with pytest.raises(ValueError, match="recipe = 'some_recipe', this one has 'another'"):
        check_run_folder(Recipe("another", RECIPE.stages), settings(tmp_path))
