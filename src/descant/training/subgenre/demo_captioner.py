"""The small captioner that the demo hears with where none is given: trained on the corpus's own training clips."""

import logging
from pathlib import Path

from descant.training.arguments import parse_settings
from descant.training.recipe import Recipe, Stage
from descant.training.run import run
from descant.training.subgenre.settings import SubgenreSettings

log = logging.getLogger(__name__)

RECIPE = Recipe(
    name="captioner",
    stages=(Stage("short", 1),),
    demo={"num_train_epochs": 6, "audio_warm_up_epochs": 10, "save_epochs": 6, "eval_epochs": 6, "eval_answers": 0},
)


def train_demo_captioner(settings: SubgenreSettings) -> str:
    """The captioner's folder beside the run's model; trained first where it is not finished yet.

    Validation and test clips of the demo corpus are the same for both, so the captioner has heard none of them.
    """
    folder = Path(settings.output_dir) / "captioner"
    if not (folder / "README.md").is_file():  # written last
        log.info("no --captioner: the demo trains a small one first")
        wanted = ["--demo", "--output_dir", str(folder), "--features", settings.features, "--no_report"]
        wanted += ["--seed", str(settings.seed), "--resume", settings.resume]
        run(RECIPE, parse_settings(RECIPE, [*wanted, "--disable_tqdm", str(settings.disable_tqdm)]))
    return str(folder)
