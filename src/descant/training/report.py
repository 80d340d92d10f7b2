"""The end of a demo run: what the model answers to music it has not heard, and whether it listened."""

import json
from pathlib import Path

from transformers import PreTrainedModel, ProcessorMixin

from descant.data.annotations import Row
from descant.data.demo import load_demo
from descant.data.feature_store import FeatureStore
from descant.evaluation import exact_answer
from descant.evaluation.answering import answer_rows
from descant.evaluation.listening import as_dict, format_listening, measure_listening

SHOWN_CLIPS = 6
SCORES_FILE = "listening.json"


def report_demo(model: PreTrainedModel, processor: ProcessorMixin, features: FeatureStore, folder: Path) -> None:
    """Print the answers for six held-out clips, the three accuracies and where the model lies; save the numbers."""
    model.eval()
    splits = load_demo()
    print(format_examples(model, processor, splits["test"], features))
    reports = {}
    for split, title in (("test", "Known grooves in new keys"), ("test_grooves", "Grooves never heard")):
        report = measure_listening(model, processor, splits[split], splits["train"], features)
        print(f"\n{format_listening(report, title)}")
        reports[split] = as_dict(report)
    (folder / SCORES_FILE).write_text(json.dumps(reports, indent=2) + "\n", encoding="utf-8")
    print(
        f'\nThe model lies in {folder}. Ask it:\n  descant ask {folder} SONG.mp3 -q "What is the genre of this song?"'
    )


def format_examples(model: PreTrainedModel, processor: ProcessorMixin, rows: list[Row], features: FeatureStore) -> str:
    """One short and one long question for each of six clips."""
    chosen = [row for number, clip in enumerate(_spread_clips(rows)) for row in _two_questions(rows, clip, number)]
    answers = answer_rows(model, processor, chosen, features, num_beams=1, batch_size=2 * SHOWN_CLIPS)
    lines = ["Answers about six clips that the model has not heard:"]
    for row, answer in zip(chosen, answers, strict=True):
        correct = exact_answer(answer, row.answer, row.question_type)
        mark = "" if row.question_type.startswith("long") else "  (right)" if correct else "  (wrong)"
        lines += [f"\n{row.clip_id}  {row.question}", f"  answer     {answer}{mark}", f"  reference  {row.answer}"]
    return "\n".join(lines)


def _spread_clips(rows: list[Row]) -> list[str]:
    clips = list(dict.fromkeys(row.clip_id for row in rows))
    return clips[:: max(1, len(clips) // SHOWN_CLIPS)][:SHOWN_CLIPS]


def _two_questions(rows: list[Row], clip: str, number: int) -> list[Row]:
    """Another closed question for each clip, and its first long one."""
    asked = [row for row in rows if row.clip_id == clip and row.question is not None]
    short = [row for row in asked if not row.question_type.startswith("long")]
    long = [row for row in asked if row.question_type.startswith("long")]
    return [short[number % len(short)], *long[:1]]
