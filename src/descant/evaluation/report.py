"""An evaluation as Markdown: scores beside published rows, audio controls, what they say, what they rest on."""

from typing import Any

from descant.evaluation.measures import table_lines

BERTSCORE = "bertscore_f1_roberta-large_L17_no-idf"
NAMES = ("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rougeL", BERTSCORE)
ROWS = {
    "LP-MusicCaps transfer": (0.2909, 0.1487, 0.0893, 0.0605, 0.2239, 0.2149, 0.8778),
    "LP-MusicCaps supervised": (0.2851, 0.1376, 0.0759, 0.0479, 0.2062, 0.1922, 0.8705),
    "LP-MusicCaps zero-shot pretrain": (0.1977, 0.0670, 0.0217, 0.0079, 0.1288, 0.1303, 0.8451),
}
PUBLISHED = {"lp_musiccaps": {name: dict(zip(NAMES, values, strict=True)) for name, values in ROWS.items()}}
PUBLISHED_DATA = "MusicCaps, captions, test"

LEFT_OUT = ("vocab_size", "vocab_novelty", "caption_novelty")  # from the wide table; they stand in scores.json


def render_report(result: dict[str, Any]) -> str:
    """Return the whole report."""
    data = f"{result['dataset']}, {result['config']}, {result['split']}"
    count = f"{result['n']} answers, {result['skipped']} skipped"
    count += f", {result['bad_records']} bad records in the dataset" if result["bad_records"] else ""
    parts = [
        f"# {result['model']} on {data}",
        f"Protocol `{result['protocol']}`, {count}; 95 % intervals by clip.",
        render_scores(result, data), render_published_note(result["protocol"]),
        render_claims(result), render_leak(result["leak"]),
    ]  # fmt: skip
    if result["controls"]:
        parts += ["## Does it listen?", render_controls(result), "\n".join(f"- {text}" for text in result["verdicts"])]
    if result.get("decisions"):
        parts += ["## Typed answers", render_decisions(result["decisions"])]
    if result.get("cost"):
        parts.append(render_cost(result["cost"]))
    parts.append("Made with " + ", ".join(f"{name} {value}" for name, value in result["made_with"].items()) + ".")
    return "\n\n".join(part for part in parts if part) + "\n"


def render_scores(result: dict[str, Any], data: str) -> str:
    """Return a row for the model, one for its intervals, one for each published system."""
    names = [name for name in result["intervals"] if name not in LEFT_OUT]
    published = PUBLISHED.get(result["protocol"], {})
    rows = [["this model", data, *(f"{result[name]:.4f}" for name in names)]]
    rows.append(["", "", *("{:.4f} – {:.4f}".format(*result["intervals"][name]) for name in names)])
    for system, scores in published.items():
        rows.append([system, PUBLISHED_DATA, *(f"{scores[name]:.4f}" if name in scores else "" for name in names)])
    return "\n".join(table_lines(["system", "data", *names], rows))


def render_cost(cost: dict[str, Any]) -> str:
    """Say what the requests of this run took."""
    text = f"{cost['requests']} requests, {cost['retries']} retries, {cost['input_tokens']} tokens in, "
    text += f"{cost['output_tokens']} tokens out"
    return f"{text}, {cost['price']:.4f} at the given prices." if cost.get("price") is not None else f"{text}."


DECISION_SCORES = ("accuracy", "ece", "brier", "risk_area", "accuracy_at_60", "sure", "precision_of_sure")


def render_decisions(decisions: dict[str, Any]) -> str:
    """Return a table of the scores of typed answers, over all question types and for each, and what they are."""
    rows = []
    for name, scores in (("all", decisions["all"]), *decisions["by_type"].items()):
        cells = []
        for score in DECISION_SCORES:
            low, high = scores["intervals"].get(score, (None, None))
            value = "–" if scores[score] is None else f"{scores[score]:.3f}"
            cells.append(value if low is None or scores[score] is None else f"{value} ({low:.3f} – {high:.3f})")
        rows.append([name, str(scores["n"]), *cells])
    note = (
        "One decision a clip and question type. ece: expected calibration error, 15 bins of equal mass; risk_area: "
        "share of wrong answers, mean over all coverages; accuracy_at_60: of the surest 60 %; sure: share above the "
        f"threshold that was fitted for a precision of {decisions['precision']:g}."
    )
    return "\n".join([*table_lines(["type", "n", *DECISION_SCORES], rows), "", note])


def render_claims(result: dict[str, Any]) -> str:
    """Say how many claims of long answers were checked, and how many of each category contradict nothing known."""
    claims = result.get("claims")
    if not claims:
        return ""
    share, number = claims[""]
    shares = ", ".join(f"{name} {part:.3f} of {count:,}" for name, (part, count) in claims.items() if name)
    text = f"Claims of long answers that contradict nothing known: {share:.3f} of {number:,} ({shares})"
    if "checked_claims" in result:
        text += f"; {result['checked_claims']:.2f} an answer, {result['grammatical']:.3f} of the answers grammatical"
    return f"{text}."


def render_published_note(protocol: str) -> str:
    """Say what the published rows may be compared with."""
    if protocol not in PUBLISHED:
        return "No published system reports this protocol on these data with its predictions."
    return f"Published rows are of {PUBLISHED_DATA}: with other data they show the scale, they do not compare."


def render_leak(leak: dict[str, Any]) -> str:
    """Say what the leak check gave."""
    if not leak["checked"]:
        return "**Leak check: not possible**, the model does not say which clips it was trained on."
    if leak["clips"]:
        return f"**Leak: {leak['clips']} of these clips were trained on.** The scores measure memory."
    return "Leak check: none of these clips is among the model's recorded training clips."


def render_controls(result: dict[str, Any]) -> str:
    """Return a row for each score, a column for each control: its score, and the gap to the model's own."""
    controls = result["controls"]
    names = dict.fromkeys(name for scores in controls.values() for name in scores)
    rows = [[name, f"{result[name]:.4f}", *(cell(scores.get(name)) for scores in controls.values())] for name in names]
    return "\n".join(table_lines(["score", "own audio", *(f"{name}: score (gap)" for name in controls)], rows))


def cell(gap: dict[str, Any] | None) -> str:
    """Return a control's score, and the gap with its interval."""
    if gap is None:
        return ""
    low, high = gap["interval"]
    return f"{gap['score']:.4f} ({gap['gap']:+.4f} [{low:.4f}, {high:.4f}])"
