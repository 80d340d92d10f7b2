"""One evaluation from its settings: check for leaks, answer, score, compare with controls, report.

The work is shared over processes by chunks of questions; each chunk's answers are on disk before the next one, so that
a run goes on where an earlier one ended. Every question of the split ends as an answer or as a named problem.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm.auto import tqdm

from descant.answering.answer_log import AnswerLog
from descant.answering.answers import Answer, answer_id
from descant.answering.listener import Listener
from descant.answering.model_folder import find_model, fingerprint_model
from descant.answering.stream import Request
from descant.data.annotations import Row, log_problems
from descant.data.corpus import Corpus, limit_clips, load_corpus
from descant.data.extraction import prepare_features, read_skipped
from descant.data.features import FeatureStore
from descant.data.splits import ClipHashes, find_leaks, refuse_leaks
from descant.data.terms import Claims
from descant.evaluation.calibration import measure_decisions
from descant.evaluation.claims import CONSISTENT, consistency_measures, count_claims, gather_facts, long_measures
from descant.evaluation.controls import Condition, explain_gaps, make_conditions, measure_gaps, read_features
from descant.evaluation.exact import is_closed, majority_measures
from descant.evaluation.measures import Measure, Sums
from descant.evaluation.predictions_file import Item, read_items
from descant.evaluation.report import render_report
from descant.evaluation.scoring import describe_parts, intervals, item_measures
from descant.files import JsonLines, hold_lock, write_whole
from descant.models import box
from descant.publish.facts import SCORES_FILE, hash_clips, read_records

BATCHES_A_CHUNK = 4
LOCK_FILE = ".lock"


@dataclass(frozen=True)
class Question:
    """A question (None: a caption) about a clip with every answer that the split gives to it."""

    clip_id: str
    start_s: float
    end_s: float
    question: str | None
    question_type: str | None
    references: tuple[str, ...]


def gather_questions(rows: Iterable[Row]) -> list[Question]:
    """Join rows with the same clip and question to one question with several references; a clip's stand together."""
    grouped: dict[str, dict[tuple[float, str | None], list[Row]]] = {}
    for row in rows:
        grouped.setdefault(row.clip_id, {}).setdefault((row.start_s, row.question), []).append(row)
    return [
        Question(row.clip_id, row.start_s, row.end_s, row.question, row.question_type, tuple(r.answer for r in same))
        for questions in grouped.values() for same in questions.values() for row in same[:1]
    ]  # fmt: skip


@dataclass(frozen=True)
class Share:
    """Which part of the work is this process's."""

    process: int = 0
    processes: int = 1


def answer_questions(
    listener: Listener, questions: Sequence[Question], condition: Condition, answered: AnswerLog,
    batch_size: int, share: Share,
) -> None:  # fmt: skip
    """Answer this process's chunks and log each when it is done.

    Chunks do not depend on the number of processes or on what is answered already (a torn chunk, or one with a
    question that failed, is answered whole), so a batch holds the same questions in every run and gives the same
    answers.
    """
    size = BATCHES_A_CHUNK * batch_size
    chunks = [questions[start : start + size] for start in range(0, len(questions), size)]
    mine = chunks[share.process :: share.processes]
    for chunk in tqdm(mine, desc=f"answering ({condition.name})", unit="chunk", disable=share.process > 0 or None):
        drafts = [draft_answer(listener, question, condition) for question in chunk]
        heard = [condition.heard_hash(question.clip_id) for question in chunk]
        known = [answered.known.get((draft.id, sound)) for draft, sound in zip(drafts, heard, strict=True)]
        if any(given is None or given["error"] for given in known):
            answered.append(answer_chunk(listener, chunk, drafts, condition, batch_size), heard)


def draft_answer(listener: Listener, question: Question, condition: Condition) -> Answer:
    """Return the record of an answer before it is given."""
    generation = listener.generation | ({} if condition.name == "own" else {"control": condition.name})
    fields = asdict(question) | {"references": list(question.references)}
    key = answer_id(question.clip_id, question.start_s, question.question, generation)
    return Answer(id=key, audio=question.clip_id, model=listener.name, generation=generation, **fields)


def finish_answer(listener: Listener, question: Question, condition: Condition, answered: AnswerLog) -> Answer:
    """Return the record of a logged answer: all but what the model gave is as the question stands today."""
    draft = draft_answer(listener, question, condition)
    return replace(draft, **answered.known[draft.id, condition.heard_hash(question.clip_id)])


def require_logged(
    listener: Listener, questions: Sequence[Question], condition: Condition, answered: AnswerLog
) -> None:  # fmt: skip
    """Raise ValueError where answers that were given are no longer in the log."""
    keys = ((draft_answer(listener, question, condition).id, question.clip_id) for question in questions)
    lost = sum((key, condition.heard_hash(clip_id)) not in answered.known for key, clip_id in keys)
    if lost:
        raise ValueError(
            f"{answered.folder}: {lost} of {len(questions)} answers are gone, as if the folder was removed meanwhile; "
            "run the same command again"
        )


def answer_chunk(
    listener: Listener, chunk: Sequence[Question], drafts: Sequence[Answer], condition: Condition, batch_size: int
) -> list[Answer]:
    """Return the drafts with predictions; a question that fails has its `error`, and the others are answered."""

    def requests() -> Iterator[Request[int]]:
        for index, question in enumerate(chunk):
            asked = question.question if condition.asks else None
            yield Request(index, question.clip_id, asked, read_features(condition, question.clip_id))

    answers = list(drafts)
    for index, outcome in listener.answer(requests(), batch_size):
        if outcome.error is None:
            answers[index] = replace(drafts[index], prediction=outcome.text, score=round(outcome.score, 4))
        else:
            answers[index] = replace(drafts[index], error=outcome.error)
    return answers


@dataclass(frozen=True)
class EvaluationSettings:
    """The settings of `descant evaluate`; `max_clips` 0 and `num_beams` None mean all, and the model's own."""

    model: str
    dataset: str
    split: str
    protocol: str
    config: str
    output_dir: Path
    features: str = "features"
    audio_dir: str | None = None
    controls: bool = False
    allow_leak: bool = False
    bertscore: str | None = None
    num_beams: int | None = None
    batch_size: int = 32
    max_clips: int = 0
    everything: bool = False  # leave long answers as the model words them


@dataclass(frozen=True)
class Prepared:
    """The questions that can be asked, the others with the reason why not, and the features."""

    questions: list[Question]
    missing: list[tuple[Question, str]]
    store: FeatureStore


def evaluate(settings: EvaluationSettings) -> dict[str, Any] | None:
    """Answer and score a split; return the result on the main process, None on the others.

    Raises:
        ValueError: no such data or split, another evaluation at work in the same folder, or (LeakError) the model was
            trained on its clips.
    """
    accelerator = Accelerator()
    folder = find_model(settings.model)
    corpus = load_split(settings)
    trained = read_trained_clips(settings.model, folder)
    find_trained_on(settings, trained, dict.fromkeys(clips_of(corpus, settings), ClipHashes()))
    busy = f"another evaluation is writing into {settings.output_dir}: wait for it, or pass another --output_dir"
    lock = hold_lock(settings.output_dir / LOCK_FILE, busy) if accelerator.is_main_process else nullcontext()
    with lock:
        return answer_and_score(accelerator, folder, corpus, trained, settings)


def read_trained_clips(model: str, folder: Path) -> dict[str, ClipHashes]:
    """Return the clips (id → hashes) that a model was trained on, which lies in a folder; see `read_records`."""
    return read_records(str(folder) if folder == box.FOLDER else model)[1]  # "box" is neither a path nor a Hub id


def answer_and_score(
    accelerator: Accelerator, folder: Path, corpus: Corpus, trained: Mapping[str, ClipHashes],
    settings: EvaluationSettings,
) -> dict[str, Any] | None:  # fmt: skip
    """Evaluate in an output folder that no other run writes into."""
    generation: dict[str, Any] = {"num_beams": settings.num_beams} if settings.num_beams else {}
    listener = Listener.load(
        settings.model, device=accelerator.device, everything=settings.everything, **generation
    )
    prepared = prepare_questions(accelerator, corpus, listener, settings)
    clips = [question.clip_id for question in prepared.questions]
    leaks = find_trained_on(settings, trained, hash_clips(prepared.store, clips))
    conditions = [Condition("own", prepared.store)]
    if settings.controls:
        asked = any(question.question is not None for question in prepared.questions)
        conditions += make_conditions(prepared.store, listener.features, clips, asked)
    fingerprint = fingerprint_model(folder)
    for condition in conditions:
        answer_condition(accelerator, listener, prepared, condition, fingerprint, settings)
    if not accelerator.is_main_process:
        return None
    result = score_answers(corpus, [condition.name for condition in conditions], settings)
    result["leak"] = {"checked": bool(trained), "clips": len(leaks)}
    result["decisions"] = score_decisions(listener, corpus, prepared.store, settings)
    write_results(settings.output_dir, result)
    return result


def score_decisions(
    listener: Listener, corpus: Corpus, store: FeatureStore, settings: EvaluationSettings
) -> dict[str, Any]:
    """Score typed answers to the split's closed questions; empty for a model without `decision.json`."""
    config = listener.model.decision_config
    if config is None:
        return {}
    rows = [row for row in corpus.rows(settings.config, settings.split) if row.clip_id in store]
    return measure_decisions(listener.model, listener.processor, config, rows, store)


def load_split(settings: EvaluationSettings) -> Corpus:
    """Return the dataset, which must have rows in the split."""
    corpus = load_corpus(settings.dataset, [settings.config], settings.audio_dir)
    log_problems(corpus.problems)
    if not corpus.rows(settings.config, settings.split):
        splits = ", ".join(name for name in corpus.splits() if corpus.rows(settings.config, name))
        raise ValueError(f"--split {settings.split}: {settings.dataset} has rows in {splits} only")
    return limit_clips(corpus, settings.max_clips) if settings.max_clips else corpus


def clips_of(corpus: Corpus, settings: EvaluationSettings) -> list[str]:
    """Return the clips of the split."""
    return list(dict.fromkeys(row.clip_id for row in corpus.rows(settings.config, settings.split)))


def find_trained_on(
    settings: EvaluationSettings, trained: Mapping[str, ClipHashes], tested: Mapping[str, ClipHashes]
) -> list[str]:
    """Return the tested clips that the model was trained on; raise LeakError unless the user allows them.

    A training split, which is trained on by its name, is allowed.
    """
    leaks = find_leaks(trained, tested)
    if not settings.allow_leak and settings.split != "train":
        refuse_leaks(leaks, settings.model, settings.split)
    return leaks


def prepare_questions(
    accelerator: Accelerator, corpus: Corpus, listener: Listener, settings: EvaluationSettings
) -> Prepared:
    """Return the questions whose clips have features, which are computed where there is sound, and the others."""
    rows = corpus.rows(settings.config, settings.split)
    audio = {row.clip_id: corpus.audio[row.clip_id] for row in rows if row.clip_id in corpus.audio}
    split = replace(corpus, configs={settings.config: {settings.split: rows}}, audio=audio)
    with accelerator.main_process_first():
        store = prepare_features(split, listener.features, settings.features)
    questions = gather_questions(rows)
    reasons = read_skipped(store)
    no_sound = "has no audio and no features: pass --audio_dir or --features"
    missing = [(q, reasons.get(q.clip_id, no_sound)) for q in questions if q.clip_id not in store]
    askable = [question for question in questions if question.clip_id in store]
    if not askable:
        raise ValueError(
            f"no clip of the {settings.split} split can be heard; {missing[0][0].clip_id}: {missing[0][1]}"
        )
    return Prepared(askable, missing, store)


def answer_condition(
    accelerator: Accelerator, listener: Listener, prepared: Prepared, condition: Condition, fingerprint: str,
    settings: EvaluationSettings,
) -> None:  # fmt: skip
    """Answer all questions under one condition, over the processes, and write them in the split's order."""
    answered = AnswerLog(settings.output_dir, condition.name, fingerprint, accelerator.process_index)
    share = Share(accelerator.process_index, accelerator.num_processes)
    answer_questions(listener, prepared.questions, condition, answered, settings.batch_size, share)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        answered.refresh()
        require_logged(listener, prepared.questions, condition, answered)
        done = [finish_answer(listener, question, condition, answered) for question in prepared.questions]
        failed = [replace(draft_answer(listener, q, condition), error=reason) for q, reason in prepared.missing]
        JsonLines(answers_file(settings.output_dir, condition.name)).write(map(asdict, [*done, *failed]))
    accelerator.wait_for_everyone()


def answers_file(folder: Path, condition: str) -> Path:
    """Return where a condition's answers stand."""
    return folder / ("answers.jsonl" if condition == "own" else f"answers-{condition}.jsonl")


def score_answers(corpus: Corpus, conditions: Sequence[str], settings: EvaluationSettings) -> dict[str, Any]:
    """Score the written answers: what `descant score` would read from the same files.

    The questions that were answered under every condition count; each other one is logged with its reason.

    Raises:
        ValueError: there is none.
    """
    read = {name: read_items(answers_file(settings.output_dir, name)) for name in conditions}
    log_problems([problem for answers in read.values() for problem in answers.problems])
    answered = keep_common({name: answers.items for name, answers in read.items()})
    own, asked = answered["own"], len(read["own"].items) + len(read["own"].problems)
    if not own:
        raise ValueError(f"none of the {asked} questions was answered; the reasons stand in {settings.output_dir}")
    train = corpus.rows(settings.config, "train")
    known = [row.answer for row in train] or None
    facts = load_facts(corpus, settings)
    claims = {name: consistency_measures(items, facts) for name, items in answered.items()}
    measured = {
        name: item_measures(items, settings.protocol, train_references=known, bertscore=settings.bertscore)
        + list[Measure](claims[name][:1])
        + list[Measure](long_measures(items, facts))
        for name, items in answered.items()
    }
    if settings.controls:
        majority = majority_measures(train, [item.references for item in own], [item.question_type for item in own])
        measured |= {"majority": majority} if majority else {}
    result = summarise(own, asked - len(own), measured, corpus, settings)
    return result | {"claims": describe_claims(claims["own"])}


def load_facts(corpus: Corpus, settings: EvaluationSettings) -> dict[str, Claims]:
    """Return what closed questions answer of the split's clips, those included that the configuration leaves out."""
    rows = corpus.rows(settings.config, settings.split)
    if not any(is_closed(row.question_type) for row in rows):
        try:
            rows = load_corpus(settings.dataset, ["short"], settings.audio_dir).rows("short", settings.split)
        except ValueError:  # the dataset has none
            return {}
    return gather_facts(rows)


def describe_claims(measures: Sequence[Sums]) -> dict[str, tuple[float, int]]:
    """Return the share of consistent claims and the number of claims, of each category ("": all)."""
    return {one.name.removeprefix(CONSISTENT).lstrip("_"): (one.value(), count_claims(one)) for one in measures}


def keep_common(answered: Mapping[str, Sequence[Item]]) -> dict[str, list[Item]]:
    """Return the items about the questions that every condition has, in each condition's order."""
    keys = [{(item.clip, item.start_s, item.question) for item in items} for items in answered.values()]
    common = set.intersection(*keys)
    return {
        name: [item for item in items if (item.clip, item.start_s, item.question) in common]
        for name, items in answered.items()
    }


def summarise(
    own: Sequence[Item], skipped: int, measured: dict[str, list[Measure]], corpus: Corpus,
    settings: EvaluationSettings,
) -> dict[str, Any]:  # fmt: skip
    """Return the result as it stands in scores.json."""
    clips = [item.clip for item in own]
    ours = measured.pop("own")
    gaps = measure_gaps(ours, measured, clips)
    controls = {
        name: {d.name: {"score": d.first, "gap": d.gap, "interval": d.interval, "p": d.p} for d in by_score.values()}
        for name, by_score in gaps.items()
    }
    return {
        "model": settings.model, "dataset": corpus.id, "revision": corpus.revision, "config": settings.config,
        "split": settings.split, "protocol": settings.protocol, "n": len(own), "skipped": skipped,
        "bad_records": len(corpus.problems),
        **{measure.name: measure.value() for measure in ours}, "intervals": intervals(ours, clips),
        "controls": controls, "verdicts": explain_gaps(gaps), "made_with": describe_parts(),
        "max_clips": settings.max_clips,
    }  # fmt: skip


def write_results(folder: Path, result: dict[str, Any]) -> None:
    """Write scores.json and results.md, each whole or not at all."""
    write_whole(folder / SCORES_FILE, json.dumps(result, indent=2) + "\n")
    write_whole(folder / "results.md", render_report(result))
