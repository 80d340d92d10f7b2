"""One subgenre job from its recipe: listen, train, compare, save, publish."""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from descant.models.subgenre.configuration_subgenre import MODALITIES
from descant.training.arguments import parse_settings
from descant.training.curriculum import share_epochs
from descant.training.exit_status import ending_with_status, set_up_logging
from descant.training.finish import check_hub
from descant.training.run_folder import claim_run_folder, hold_run_folder, require_same_run
from descant.training.subgenre.classifier import STAGE, Classifier, train_classifier
from descant.training.subgenre.comparison import FUSION, as_scores, compare_systems, render_comparison
from descant.training.subgenre.data import SubgenreData, fingerprint, read_corpus, read_data
from descant.training.subgenre.demo_captioner import train_demo_captioner
from descant.training.subgenre.finish import describe_and_push, record_data
from descant.training.subgenre.recipe import SubgenreRecipe
from descant.training.subgenre.settings import SubgenreSettings, identity
from descant.whole_files import write_whole

log = logging.getLogger(__name__)
REPORT_FILE = "subgenres.md"
SCORES_FILE = "scores.json"


def train_subgenres(recipe: SubgenreRecipe, argv: Sequence[str] | None = None) -> None:
    """Run the recipe from the command line; the status tells how it ended, as for the other recipes."""
    set_up_logging()
    settings = parse_settings(recipe, argv, SubgenreSettings)
    with ending_with_status(recipe.name):
        run(recipe, settings)


def run(recipe: SubgenreRecipe, settings: SubgenreSettings) -> Path:
    """Train, compare and save; the folder of the finished classifier, which no other run touches meanwhile."""
    with hold_run_folder(settings):
        return run_alone(recipe, settings)


def run_alone(recipe: SubgenreRecipe, settings: SubgenreSettings) -> Path:
    """What `run` does, in a folder that is held."""
    share_epochs([STAGE], settings.num_train_epochs)  # refuses too few before anything is computed
    this_run = identity(recipe, settings)
    require_same_run(settings.output_dir, this_run)
    corpus = read_corpus(settings)
    data_now = {"training_data": fingerprint(corpus)}
    require_same_run(settings.output_dir, data_now)
    check_hub(settings, corpus)
    claim_run_folder(settings.output_dir, this_run | data_now)
    captioner = settings.captioner
    if captioner is None and settings.dataset == "demo":
        captioner = train_demo_captioner(settings)
    data = read_data(corpus, captioner, recipe.questions, settings)
    print_plan(recipe, settings, data)
    started = time.monotonic()
    folder = Path(settings.output_dir)
    classifier = train_classifier(settings, data, trained_modalities(data), settings.seed, str(folder))
    hours = (time.monotonic() - started) / 3600
    if settings.process_index == 0:
        record_data(folder, data, settings)
    if data.tracks["test"]:
        compare(settings, data, classifier, folder)
    if settings.process_index == 0:
        describe_and_push(folder, data, settings, hours)
    return folder


def trained_modalities(data: SubgenreData) -> tuple[str, ...]:
    """Those that any training track has."""
    examples = data.examples["train"]
    there = {
        "lyrics": any(one.lyrics for one in examples),
        "captions": any(one.captions for one in examples),
        "audio": any(one.audio_embeds is not None for one in examples),
    }
    return tuple(one for one in MODALITIES if there[one])


def compare(settings: SubgenreSettings, data: SubgenreData, classifier: Classifier, folder: Path) -> None:
    """Trains what is compared with, and prints and saves the table on the test tracks.

    Tracks of the test split decide nothing: whatever is chosen is chosen on validation tracks.
    """
    classifiers = {FUSION: [classifier]}
    if settings.compare:
        seeds = [settings.seed + number for number in range(settings.seeds)]
        systems = {FUSION: classifier.modalities} | {one: (one,) for one in classifier.modalities}
        for name, modalities in systems.items():
            classifiers.setdefault(name, [])
            for seed in seeds[len(classifiers[name]) :]:
                where = str(folder / "compare" / f"{name}-{seed}")
                classifiers[name].append(train_classifier(settings, data, modalities, seed, where))
    if settings.process_index == 0:
        found = compare_systems(data, classifiers, "test")
        report = render_comparison(found)
        write_whole(folder / REPORT_FILE, report)
        write_whole(folder / SCORES_FILE, json.dumps(as_scores(found, data), indent=2) + "\n")
        print(report)


def print_plan(recipe: SubgenreRecipe, settings: SubgenreSettings, data: SubgenreData) -> None:
    """Data, labels, what is there to read, on stderr, once."""
    if settings.process_index:
        return
    examples = data.examples["train"]
    counts = {
        "lyrics": sum(one.lyrics is not None for one in examples),
        "captions": sum(one.captions is not None for one in examples),
        "audio": sum(one.audio_embeds is not None for one in examples),
    }
    log.info("%s: %d genres, %d subgenres", recipe.name, len(data.tree.genres), len(data.tree.subgenres))
    log.info("  data       %s (%s): %s", data.corpus.id, data.corpus.licence,
             ", ".join(f"{len(tracks):,} {split} tracks" for split, tracks in data.tracks.items()))  # fmt: skip
    log.info("  to read    %s", ", ".join(f"{name} of {count:,}" for name, count in counts.items()))
    log.info("  captioner  %s", data.captioner or "none")
    log.info("  output     %s", settings.output_dir)
