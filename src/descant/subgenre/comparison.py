"""The classifier beside single modalities and plain systems on held-out tracks: table, modality grid, calibration."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from descant.evaluation.calibration import expected_calibration_error
from descant.evaluation.measures import Difference, Interval
from descant.evaluation.report import table_lines
from descant.models.subgenre.configuration_subgenre import MODALITIES
from descant.subgenre.examples import SubgenreData
from descant.subgenre.label_scores import (
    GoldLabels,
    LabelPredictions,
    paired_difference,
    reliability_table,
    render_differences,
    render_measured,
    score_intervals,
    score_labels,
)
from descant.subgenre.plain_systems import predict_by_asking, predict_by_tfidf, predict_commonest
from descant.subgenre.training import Classifier

FUSION = "fusion"
MACRO_F1 = ("genre_macro_f1", "subgenre_macro_f1")

Runs = list[LabelPredictions]


@dataclass(frozen=True)
class Comparison:
    """The predictions of all systems for the tracks of one split.

    systems: name → one run a seed; `fusion` and `lyrics`, `captions`, `audio` alone are classifiers. measured: their
    scores and intervals. visible: fusion's predictions from some modalities only, by their names.
    """

    split: str
    gold: GoldLabels
    systems: dict[str, Runs]
    measured: dict[str, dict[str, tuple[float, Interval]]]
    visible: dict[tuple[str, ...], Runs]


def compare_systems(data: SubgenreData, classifiers: Mapping[str, Sequence[Classifier]], split: str) -> Comparison:
    """Predict a split, which must have tracks, with all systems.

    classifiers: one a seed of `fusion` and of each single modality.
    """
    examples = data.examples[split]
    read = {name: [one.read(examples) for one in runs] for name, runs in classifiers.items()}

    def predict(name: str, modalities: Collection[str] = MODALITIES) -> Runs:
        return [one.predict(inputs, modalities) for one, inputs in zip(classifiers[name], read[name], strict=True)]

    systems = {name: predict(name) for name in classifiers}
    plain: dict[str, Callable[[], LabelPredictions]] = {
        "TF-IDF of lyrics": lambda: predict_by_tfidf(data, split, captions=False),
        "TF-IDF of lyrics and captions": lambda: predict_by_tfidf(data, split, captions=True),
        "asking for the genre": lambda: predict_by_asking(data, split),
        "commonest labels": lambda: predict_commonest(data, split),
    }
    systems |= {name: [system()] for name, system in plain.items()}
    subsets = [subset for size in (3, 2, 1) for subset in combinations(MODALITIES, size)]
    visible = {subset: predict(FUSION, subset) for subset in subsets}
    gold = data.gold(split)
    if gold is None:
        raise ValueError(f"no tracks in the {split} split to compare systems on")
    measured = {name: score_intervals(gold, runs) for name, runs in systems.items()}
    return Comparison(split, gold, systems, measured, visible)


def render_comparison(comparison: Comparison) -> str:
    """Render everything as Markdown."""
    gold, seeds = comparison.gold, len(comparison.systems[FUSION])
    tracks, artists = len(gold.genre), len(set(gold.groups))
    return "\n\n".join([
        f"# Subgenres of {tracks} {comparison.split} tracks by {artists} artists",
        f"Classifiers: mean of {seeds} seed{'s' if seeds > 1 else ''}. In brackets 95 % intervals, by artist.",
        render_measured(comparison.measured),
        "## Fusion less the other systems", render_differences(differences_to_others(comparison)),
        "## Fusion with modalities missing, and its macro-F1 less the best of those seen alone (points)",
        render_missing(comparison),
        "## Calibration of fusion", render_calibration(comparison),
    ]) + "\n"  # fmt: skip


def differences_to_others(comparison: Comparison) -> dict[str, Difference]:
    """Compare fusion's macro-F1 with that of each other system, over the same samples of artists."""
    fusion = comparison.systems[FUSION]
    return {
        f"fusion − {name} ({score.split('_')[0]})": paired_difference(comparison.gold, fusion, runs, score)
        for score in MACRO_F1 for name, runs in comparison.systems.items() if name != FUSION
    }  # fmt: skip


def render_missing(comparison: Comparison) -> str:
    """Render a row a subset of modalities: fusion's scores, and their gap to the best modality alone (points).

    The best is the model of one modality with the highest mean, so that a gap is never flattered by a weaker one.
    """
    gold, systems = comparison.gold, comparison.systems
    alone = {name: mean_scores(gold, systems[name]) for name in MODALITIES if name in systems}
    rows = []
    for subset, runs in comparison.visible.items():
        means = mean_scores(comparison.gold, runs)
        row = [" + ".join(subset), *(f"{means[name]:.3f}" for name in ("genre_accuracy", *MACRO_F1))]
        for score in MACRO_F1:
            best = max((one for one in subset if one in alone), key=lambda one: alone[one][score], default=None)
            row.append(_gap(paired_difference(comparison.gold, runs, comparison.systems[best], score)) if best else "")
        rows.append(row)
    header = ["sees", "genre accuracy", "genre macro f1", "subgenre macro f1", "genre gap", "subgenre gap"]
    return "\n".join(table_lines(header, rows))


def _gap(difference: Difference) -> str:
    value, (low, high) = difference.gap, difference.interval
    return f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def mean_scores(gold: GoldLabels, runs: Runs) -> dict[str, float]:
    """Return each score's mean over a system's runs."""
    scores = [score_labels(gold, run) for run in runs]
    return {name: float(np.mean([one[name] for one in scores])) for name in scores[0]}


def pool_genres(comparison: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of the likeliest genre of every track and seed of fusion, and whether it is right."""
    runs = comparison.systems[FUSION]
    return (
        np.concatenate([run.genres.max(axis=1) for run in runs]),
        np.concatenate([run.genres.argmax(axis=1) == comparison.gold.genre for run in runs]),
    )


def render_calibration(comparison: Comparison) -> str:
    """Render expected calibration errors, and the reliability of the likeliest genre."""
    runs = comparison.systems[FUSION]
    top, right = pool_genres(comparison)
    subgenres = np.stack([run.subgenres for run in runs])
    truth = np.stack([comparison.gold.subgenres] * len(runs))
    rows = [[f"{one.low:.1f}–{one.high:.1f}", str(one.count), f"{one.probability:.3f}", f"{one.share_true:.3f}"]
            for one in reliability_table(top, right)]  # fmt: skip
    errors = (
        f"Expected calibration error: {expected_calibration_error(top, right):.3f} of the likeliest genre, "
        f"{expected_calibration_error(subgenres, truth):.3f} over all subgenres."
    )
    return errors + "\n\n" + "\n".join(table_lines(["probability", "tracks", "mean", "came true"], rows))


def as_scores(comparison: Comparison, data: SubgenreData) -> list[dict]:
    """List the scores of every system as `scores.json` holds them; all but fusion's are baselines."""
    entries = []
    calibration = {"genre_calibration_error": round(expected_calibration_error(*pool_genres(comparison)), 4)}
    for name, measured in comparison.measured.items():
        entries.append({
            "protocol": f"subgenres, {name}", "dataset": data.corpus.id, "config": None, "split": comparison.split,
            "n": len(comparison.gold.genre), **{score: value for score, (value, _) in measured.items()},
            **(calibration if name == FUSION else {"baseline": True}),
            "intervals": {score: list(interval) for score, (_, interval) in measured.items()},
        })  # fmt: skip
    return entries
