"""Systems beside each other, in Markdown."""

from collections.abc import Mapping, Sequence

from descant.evaluation.bootstrap import Interval
from descant.evaluation.labels.intervals import Difference, score_intervals
from descant.evaluation.labels.predictions import GoldLabels, LabelPredictions
from descant.evaluation.labels.scores import SCORES
from descant.evaluation.report import table_lines


def render_labels_table(gold: GoldLabels, systems: Mapping[str, Sequence[LabelPredictions]]) -> str:
    """A row a system, a column a score, each the mean over the system's runs with its 95 % interval by artist."""
    return render_measured({name: score_intervals(gold, runs) for name, runs in systems.items()})


def render_measured(systems: Mapping[str, Mapping[str, tuple[float, Interval]]]) -> str:
    """The same table of what `score_intervals` gave for each system."""
    rows = []
    for name, measured in systems.items():
        rows.append([name, *(f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, (low, high) in measured.values())])
    return "\n".join(table_lines(["system", *(name.replace("_", " ") for name in SCORES)], rows))


def render_differences(differences: Mapping[str, Difference]) -> str:
    """A row a comparison: its score, the difference and the 95 % interval."""
    rows = [
        [name, found.score.replace("_", " "), f"{found.value:+.3f}",
         f"[{found.interval.low:+.3f}, {found.interval.high:+.3f}]"]
        for name, found in differences.items()
    ]  # fmt: skip
    return "\n".join(table_lines(["comparison", "score", "difference", "95 % interval"], rows))
