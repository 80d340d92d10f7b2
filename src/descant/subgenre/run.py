"""One subgenre job from its recipe: listen, train, compare, save, publish."""

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from descant.files import write_whole
from descant.models.subgenre.configuration_subgenre import MODALITIES
from descant.publish.card import describe_hardware, write_card
from descant.publish.hub import publish_folder
from descant.publish.records import describe_data, inherit_records, write_records
from descant.subgenre.comparison import FUSION, as_scores, compare_systems, render_comparison
from descant.subgenre.examples import Example, SubgenreData, fingerprint, read_corpus, read_data
from descant.subgenre.labels import TrackCorpus
from descant.subgenre.settings import SubgenreRecipe, SubgenreSettings, identity
from descant.subgenre.training import STAGE, Classifier, train_classifier
from descant.training.curriculum import share_epochs
from descant.training.recipe import Recipe, Stage, parse_settings
from descant.training.run import check_hub, ending_with_status, set_up_logging
from descant.training.run import run as run_recipe
from descant.training.run_folder import claim_run_folder, hold_run_folder, require_same_run

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
        run_recipe(RECIPE, parse_settings(RECIPE, [*wanted, "--disable_tqdm", str(settings.disable_tqdm)]))
    return str(folder)


def check_hub_of_tracks(settings: SubgenreSettings, corpus: TrackCorpus) -> None:
    """As `check_hub`, for a classifier: its captioner must be on the Hub too, and binds it by its own data.

    Raises:
        ValueError: as `check_hub`, or the captioner is a folder of this machine.
    """
    captioner = settings.captioner
    if settings.publish and (Path(captioner).exists() if captioner else settings.dataset == "demo"):
        raise ValueError(
            "--push_to_hub needs --captioner HUB_ID: whoever loads the classifier cannot load "
            f"{captioner or 'the captioner that the demo trains'} from this machine"
        )
    data = inherit_records(captioner)[0] if settings.publish and captioner else []
    data = [*data, {"id": corpus.id, "licence": corpus.licence}]
    check_hub(settings, settings.init_from, data, settings.license)


def record_data(folder: Path, data: SubgenreData, settings: SubgenreSettings) -> None:
    """What the classifier was trained on, and what its captioner was: the licences of both bind it."""
    heard, heard_clips = inherit_records(data.captioner) if data.captioner else ([], {})
    tracks = {example.track_id: _digest(example) for example in data.examples["train"]}
    corpus = data.corpus
    entry = describe_data(corpus.id, corpus.revision, corpus.licence, tracks, ["tracks"])
    write_records(folder, [*heard, entry], heard_clips | tracks, settings.init_from)


def describe_and_push(folder: Path, data: SubgenreData, settings: SubgenreSettings, hours: float) -> None:
    """Write the card, and push the folder in one commit where `--push_to_hub` asks for it."""
    hardware = describe_hardware(settings.world_size, settings.device.type)
    base_model = settings.init_from or settings.text_encoder
    write_card(folder, hardware=hardware, hours=hours, base_model=base_model, repo_id=settings.hub_model_id)
    if settings.publish:
        private = bool(settings.hub_private_repo)
        url = publish_folder(folder, settings.hub_model_id, private=private, licence=settings.license)
        log.info("pushed: %s", url)


def _digest(example: Example) -> str:
    """sha256 of what was read of a track."""
    digest = hashlib.sha256((example.lyrics or "").encode("utf-8", "surrogateescape"))
    if example.audio_embeds is not None:
        digest.update(example.audio_embeds.tobytes())
    return digest.hexdigest()


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
    check_hub_of_tracks(settings, corpus)
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
