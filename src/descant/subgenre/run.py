"""One subgenre job from its recipe: read, train, compare, save, publish."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from descant.answering.model_folder import find_model
from descant.data.splits import ClipHashes
from descant.files import write_whole
from descant.models import box
from descant.models.subgenre.configuration_subgenre import MODALITIES
from descant.publish.facts import SCORES_FILE, describe_data, inherit_records, write_records
from descant.subgenre.apart import Training, TrainingApart
from descant.subgenre.comparison import FUSION, as_scores, compare_systems, render_comparison
from descant.subgenre.examples import Example, SubgenreData, fingerprint_corpus, read_corpus, read_data
from descant.subgenre.labels import TrackCorpus
from descant.subgenre.recipe import SubgenreRecipe
from descant.subgenre.training import (
    STAGE,
    Classifier,
    SubgenreJob,
    SubgenreOptions,
    SubgenreSettings,
    train_classifier,
)
from descant.training.recipe import Stage
from descant.training.run import Run, check_hub, set_up_libraries
from descant.training.run_folder import KeepFolder, RunFolder, identify_run
from descant.training.settings import parse_job, with_changes

REPORT_FILE = "subgenres.md"


class SubgenreRun(Run[SubgenreSettings, TrackCorpus]):
    """A run that trains a classifier of tracks, and what it is compared with."""

    data: SubgenreData
    classifier: Classifier
    others: dict[str, list[Training]]
    callbacks: Sequence[KeepFolder]
    apart: TrainingApart

    def __init__(self, job: SubgenreJob) -> None:
        super().__init__(job)
        self.recipe, self.options = job.recipe, job.options

    @property
    def stages(self) -> Sequence[Stage]:
        """The curriculum."""
        return [STAGE]

    def identify(self) -> dict[str, Any]:
        """Return what identifies the run."""
        return identify_run(self.job, stages=[], questions=self.recipe.questions)

    def read_corpus(self) -> TrackCorpus:
        """Return the tracks of the dataset."""
        settings = self.settings
        return read_corpus(str(settings.dataset), settings.label_tree, settings.audio_dir)

    def check_hub(self, corpus: TrackCorpus) -> None:
        """Refuse what could not be recorded or pushed: the captioner must be on the Hub too, and binds by its data."""
        settings, captioner = self.settings, self.settings.captioner
        if settings.publish and captioner and Path(captioner).exists():
            raise ValueError(
                "--push_to_hub needs --captioner HUB_ID: whoever loads the classifier cannot load "
                f"{box.NAME if captioner == str(box.FOLDER) else captioner} from this machine"
            )
        inherited = inherit_records(captioner)[0] if settings.publish and captioner else []
        check_hub(settings, [*inherited, {"id": corpus.id, "licence": corpus.licence}])

    def prepare(self, corpus: TrackCorpus, folder: RunFolder) -> str:
        """Read the captioner's answers about every track, and return a fingerprint of the tracks."""
        settings, captioner = self.settings, self.settings.captioner
        fingerprint = fingerprint_corpus(corpus)
        folder.check({"training_data": fingerprint}, starts_over=True)
        if captioner is not None:
            find_model(captioner)
        self.data = read_data(corpus, captioner, self.recipe.questions, settings.features, settings.max_tracks)
        return fingerprint

    def begin(self, folder: RunFolder) -> list[str]:
        """Return the lines of the plan."""
        self.callbacks = [KeepFolder(folder)]
        return describe_plan(self.recipe.name, self.data, self.settings.output_dir)

    def train(self) -> None:
        """Train, from the last checkpoint on where there is one; what it is compared with trains beside it."""
        settings, options, data = self.settings, self.options, self.data
        modalities = trained_modalities(data)
        self.others = plan_comparison(settings, modalities) if data.tracks["test"] else {}
        self.apart.start([one for runs in self.others.values() for one in runs], options, data)
        with self.apart.sharing():
            self.classifier = train_classifier(settings, options, data, modalities, self.callbacks)

    def finish(self, folder: Path) -> None:
        """Record the data, and compare with single modalities and plain systems."""
        settings, data = self.settings, self.data
        if settings.process_index == 0:
            record_data(folder, data, settings.init_from)
        self.apart.wait(hide_bar=settings.disable_tqdm)
        if data.tracks["test"]:
            compare_on_test(settings, self.options, data, self.classifier, self.others, self.callbacks)

    def run(self) -> Path:
        """Take all steps; see `Run.run`."""
        with TrainingApart() as self.apart:
            return super().run()

    @property
    def base_model(self) -> str | None:
        """The model whose weights the trained one began with."""
        return self.settings.init_from or self.options.base_model


def run(job: SubgenreJob) -> Path:
    """Train, compare and save; return the folder of the finished classifier."""
    return SubgenreRun(job).run()


def run_recipe(recipe: SubgenreRecipe, argv: Sequence[str] | None = None) -> None:
    """Run a recipe from the command line; see `descant.subgenre.recipe.train_subgenres`, which says how it ended."""
    set_up_libraries()
    run(read_job(recipe, argv))


def read_job(recipe: SubgenreRecipe, argv: Sequence[str] | None = None) -> SubgenreJob:
    """Return the job that a command line (by default the program's own) asks of a recipe; see `parse_job`."""
    return parse_job(recipe, argv, SubgenreSettings, lambda _: SubgenreOptions)


def record_data(folder: Path, data: SubgenreData, init_from: str | None) -> None:
    """Write the records of the tracks and those of the captioner: the licences of both bind the classifier."""
    inherited, inherited_clips = inherit_records(data.captioner) if data.captioner else ([], {})
    tracks = {example.track_id: ClipHashes(_digest(example)) for example in data.examples["train"]}
    corpus = data.corpus
    entry = describe_data(corpus.id, corpus.revision, corpus.licence, tracks, ["tracks"])
    write_records(folder, [*inherited, entry], inherited_clips | tracks, init_from)


def _digest(example: Example) -> str:
    """Return the sha256 of a track's lyrics and embedding."""
    digest = hashlib.sha256((example.lyrics or "").encode("utf-8", "surrogateescape"))
    if example.audio_embeds is not None:
        digest.update(example.audio_embeds.tobytes())
    return digest.hexdigest()


def trained_modalities(data: SubgenreData) -> tuple[str, ...]:
    """Return the modalities that any training track has."""
    counts = count_modalities(data)
    return tuple(name for name in MODALITIES if counts[name])


def count_modalities(data: SubgenreData) -> dict[str, int]:
    """Return how many training tracks have each modality."""
    examples = data.examples["train"]
    return {
        "lyrics": sum(bool(one.lyrics) for one in examples),
        "captions": sum(bool(one.captions) for one in examples),
        "audio": sum(one.audio_embeds is not None for one in examples),
    }


def plan_comparison(settings: SubgenreSettings, modalities: tuple[str, ...]) -> dict[str, list[Training]]:
    """Return what is trained to compare with, by system: further seeds of fusion, and each modality with all seeds."""
    if not settings.compare:
        return {}
    seeds = [settings.seed + number for number in range(settings.seeds)]
    systems = {FUSION: modalities} | {one: (one,) for one in modalities}
    resume = "no" if settings.resume == "no" else "auto"  # a path is the main model's

    def plan(name: str, seed: int) -> Training:
        folder = Path(settings.output_dir) / "compare" / f"{name}-{seed}"
        return Training(with_changes(settings, seed=seed, output_dir=str(folder), resume=resume), systems[name])

    return {name: [plan(name, seed) for seed in (seeds[1:] if name == FUSION else seeds)] for name in systems}


def compare_on_test(
    settings: SubgenreSettings, options: SubgenreOptions, data: SubgenreData, classifier: Classifier,
    others: Mapping[str, Sequence[Training]], callbacks: Sequence[KeepFolder],
) -> None:  # fmt: skip
    """Train the single modalities and further seeds, or load them where they are; print and save the table on the test
    tracks.

    All thresholds and weights are tuned on validation tracks.
    """
    folder = Path(settings.output_dir)
    classifiers = {FUSION: [classifier]}
    for name, trainings in others.items():
        found = [train_classifier(one.settings, options, data, one.modalities, callbacks) for one in trainings]
        classifiers[name] = [*classifiers.get(name, []), *found]
    if settings.process_index == 0:
        comparison = compare_systems(data, classifiers, "test")
        report = render_comparison(comparison)
        write_whole(folder / REPORT_FILE, report)
        write_whole(folder / SCORES_FILE, json.dumps(as_scores(comparison, data), indent=2) + "\n")
        print(report)


def describe_plan(name: str, data: SubgenreData, output_dir: str) -> list[str]:
    """Return the plan: labels, data, how many tracks have each modality, captioner and output, a line each."""
    tracks = ", ".join(f"{len(tracks):,} {split} tracks" for split, tracks in data.tracks.items())
    return [
        f"{name}: {len(data.tree.genres)} genres, {len(data.tree.subgenres)} subgenres",
        f"  data       {data.corpus.id} ({data.corpus.licence}): {tracks}",
        "  to read    " + ", ".join(f"{name} of {count:,}" for name, count in count_modalities(data).items()),
        f"  captioner  {data.captioner or 'none'}",
        f"  output     {output_dir}",
    ]
