"""How much of each score a model keeps without the right audio, and what that says, in words."""

from collections.abc import Mapping, Sequence

from descant.evaluation.comparison import Difference, compare
from descant.evaluation.measures import Measure

# Only these measure agreement with the references; lengths and vocabularies say nothing of listening.
QUALITY = ("bleu", "meteor", "rougeL", "bertscore", "exact")
DEAF = ("shuffled", "noise", "silence", "majority")  # conditions under which only the text can be known
SMALL_SHARE = 0.1


def measure_gaps(
    own: Sequence[Measure], controls: Mapping[str, Sequence[Measure]], clips: Sequence[str]
) -> dict[str, dict[str, Difference]]:
    """For each control and score: control (first), own (second), and the gap own − control with its interval."""
    gaps = {}
    for name, measures in controls.items():
        known = {measure.name: measure for measure in measures if measure.name.startswith(QUALITY)}
        ours = [measure for measure in own if measure.name in known]
        found = compare([known[measure.name] for measure in ours], ours, clips)
        gaps[name] = {difference.name: difference for difference in found}
    return gaps


def explain_gaps(gaps: Mapping[str, Mapping[str, Difference]]) -> list[str]:
    """A sentence for each score, on the control that comes closest to the model's own score."""
    scores = dict.fromkeys(score for control in gaps.values() for score in control if not score.startswith("exact_"))
    sentences = []
    for score in scores:
        rivals = [(gaps[name][score], name) for name in DEAF if score in gaps.get(name, {})]
        if rivals:
            closest, name = max(rivals, key=lambda rival: rival[0].first)
            sentences.append(explain_gap(closest, name))
    return sentences


def explain_gap(gap: Difference, control: str) -> str:
    """Whether a score is explained by text alone."""
    without = {
        "shuffled": "another clip's audio", "noise": "noise", "silence": "silence",
        "majority": "no audio at all (the commonest answer of each question type)",
    }[control]  # fmt: skip
    if gap.second <= 0:
        return f"{gap.name} is 0 with the right audio: there is nothing to explain."
    size = gap.second - gap.first
    told = f"{gap.second:.3f} with the right audio, {gap.first:.3f} with {without}, a gap of {size:.3f}"
    told += f" [{gap.interval.low:.3f}, {gap.interval.high:.3f}]"
    if gap.interval.low <= 0:
        return f"{gap.name} is explained by text alone: {told}."
    if size < SMALL_SHARE * gap.second:
        return f"{gap.name} is nearly explained by text alone: {told}, {size / gap.second:.0%} of the score."
    return f"{gap.name} depends on the audio: {told}, {size / gap.second:.0%} of the score."
