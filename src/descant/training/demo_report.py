"""The end of a demo run: answers about held-out clips, how far they depend on the audio, and what they claim."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, ProcessorMixin

from descant.data.annotations import Row
from descant.data.corpus import SplitRows, in_config
from descant.data.demo import load_demo
from descant.data.features import FeatureStore
from descant.data.terms import Claims
from descant.evaluation import exact_answer
from descant.evaluation.claims import consistency_measures, count_claims, gather_facts, long_measures
from descant.evaluation.controls import answer_rows, as_record, format_listening, measure_listening
from descant.evaluation.exact import is_closed
from descant.evaluation.predictions_file import Item
from descant.files import write_whole
from descant.models.lp_music_caps.sure_claims import SureAnswers
from descant.publish.facts import LISTENING_FILE

SHOWN_CLIPS = 6
CLAIMS_TITLE = "claims of long answers that contradict nothing known"


def report_demo(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    features: FeatureStore,
    folder: Path,
    configs: Mapping[str, SplitRows],
) -> None:
    """Print the answers for six held-out clips, the three accuracies and the model's folder; save the numbers.

    configs: the rows of each configuration that the run read. Only their clips are reported, and of a captioner only
        captions.
    """
    model.eval()
    model.load_decisions(folder, {})  # they were fitted for the saved weights
    clips = {row.clip_id for splits in configs.values() for rows in splits.values() for row in rows}
    splits = {split: [row for row in rows if row.clip_id in clips] for split, rows in load_demo().items()}
    print(format_examples(model, processor, splits["test"], features, configs))
    captions_only = set(configs) == {"captions"}
    if not captions_only:
        report_listening(model, processor, features, folder, splits)
    question = "" if captions_only else ' -q "What is the genre of this song?"'
    print(f"\nModel saved to {folder}. Ask it:\n  descant ask {folder} SONG.mp3{question}")


def report_listening(
    model: PreTrainedModel, processor: ProcessorMixin, features: FeatureStore, folder: Path, splits: SplitRows
) -> None:
    """Print and save the three accuracies on both test splits, and how many claims of long answers hold.

    A split of a single clip is left out: there is no other to hear in its place.
    """
    train, reports = load_demo()["train"], {}
    for split, title in (("test", "Known grooves in new keys"), ("test_grooves", "Grooves never heard")):
        if len({row.clip_id for row in splits[split]}) < 2:
            continue
        report = measure_listening(model, processor, splits[split], train, features)
        print(f"\n{format_listening(report, title)}")
        reports[split] = as_record(report)
        if claims := measure_claims(model, processor, splits[split], features):
            print(format_claims(claims))
            reports[split]["claims"] = claims
    write_whole(folder / LISTENING_FILE, json.dumps(reports, indent=2) + "\n")


def measure_claims(
    model: PreTrainedModel, processor: ProcessorMixin, rows: Sequence[Row], features: FeatureStore
) -> dict[str, Any]:
    """Return how many percent of the claims of long answers contradict nothing known, with its interval and `n`.

    Beside them `per_answer`, `grammatical` (percent) and, where what is not sure is left out, the same of the answers
    as the model words them (`everything`). Empty where there is no claim to check.
    """
    asked = [row for row in rows if not is_closed(row.question_type) and row.question is not None]
    answers = answer_rows(
        model, processor, asked, features, batch_size=128, progress="long answers", everything=True, num_beams=1
    )
    facts = gather_facts(rows)
    claims = score_long(asked, answers, facts)
    sure = SureAnswers.of(model)
    if not claims or sure is None:
        return claims
    revised = [
        sure.revise(text, row.question, torch.from_numpy(features.read(row.clip_id))) if text else text
        for row, text in zip(asked, answers, strict=True)
    ]
    kept = score_long(asked, revised, facts)
    return {**kept, "everything": claims} if kept else claims


def score_long(rows: Sequence[Row], answers: Sequence[str], facts: Mapping[str, Claims]) -> dict[str, Any]:
    """Return the share of consistent claims in percent, its interval, and what else says how good long answers are."""
    pairs = zip(rows, answers, strict=True)
    items = [Item(text, (row.answer,), row.clip_id, question_type=row.question_type) for row, text in pairs]
    measures = consistency_measures(items, facts)
    if not measures:
        return {}
    low, high = measures[0].interval([item.clip for item in items])
    each, whole = long_measures(items, facts)
    return {
        "value": 100 * measures[0].value(), "low": 100 * low, "high": 100 * high, "n": count_claims(measures[0]),
        "per_answer": each.value(), "grammatical": 100 * whole.value(),
    }  # fmt: skip


def format_claims(claims: Mapping[str, Any]) -> str:
    """Return the shares as lines for a terminal."""
    lines = [f"  {CLAIMS_TITLE}"]
    for title, one in (("said", claims), ("with what is not sure", claims.get("everything"))):
        if one:
            each = f"{one['n']}, {one['per_answer']:.1f} an answer, {one['grammatical']:.0f} % of them grammatical"
            lines.append(f"  {title:30} {one['value']:5.1f}  [{one['low']:.1f}, {one['high']:.1f}] of {each}")
    return "\n".join(lines)


def format_examples(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    rows: list[Row],
    features: FeatureStore,
    configs: Collection[str],
) -> str:
    """Answer one short and one long question for each of six clips, as far as the model was trained on such."""
    asked = [row for row in rows if any(in_config(row, config) for config in configs)]
    chosen = [row for number, clip in enumerate(_spread_clips(asked)) for row in _two_rows(asked, clip, number)]
    answers = answer_rows(model, processor, chosen, features, num_beams=1, batch_size=2 * SHOWN_CLIPS)
    lines = ["Answers about six clips that the model has not heard:"]
    for row, answer in zip(chosen, answers, strict=True):
        closed = is_closed(row.question_type)
        right = closed and exact_answer(answer, row.answer, row.question_type)
        mark = ("  (right)" if right else "  (wrong)") if closed else ""
        question = row.question or "(caption)"
        lines += [f"\n{row.clip_id}  {question}", f"  answer     {answer}{mark}", f"  reference  {row.answer}"]
    return "\n".join(lines)


def _spread_clips(rows: list[Row]) -> list[str]:
    clips = list(dict.fromkeys(row.clip_id for row in rows))
    return clips[:: max(1, len(clips) // SHOWN_CLIPS)][:SHOWN_CLIPS]


def _two_rows(rows: list[Row], clip: str, number: int) -> list[Row]:
    """Return one closed question, another for each clip, and the clip's first long question or its caption."""
    of_clip = [row for row in rows if row.clip_id == clip]
    short = [row for row in of_clip if is_closed(row.question_type)]
    long = [row for row in of_clip if not is_closed(row.question_type)]
    return [*([short[number % len(short)]] if short else []), *long[:1]]
