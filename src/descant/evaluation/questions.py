"""The questions of a split, and a model's answers to them, over any number of processes."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from tqdm.auto import tqdm

from descant.data.annotations import Row
from descant.evaluation.answer_log import AnswerLog
from descant.evaluation.controls import Condition
from descant.inference.answers import Answer, answer_id
from descant.inference.listener import Listener

log = logging.getLogger(__name__)
BATCHES_A_CHUNK = 4


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
    """Rows with the same clip and question become one question with several references; a clip's stand together."""
    grouped: dict[str, dict[tuple[float, str | None], list[Row]]] = {}
    for row in rows:
        grouped.setdefault(row.clip_id, {}).setdefault((row.start_s, row.question), []).append(row)
    return [
        Question(one.clip_id, one.start_s, one.end_s, one.question, one.question_type, tuple(r.answer for r in same))
        for asked in grouped.values() for same in asked.values() for one in same[:1]
    ]  # fmt: skip


@dataclass(frozen=True)
class Share:
    """Which part of the work is this process's."""

    process: int = 0
    processes: int = 1


def answer_questions(
    listener: Listener, questions: Sequence[Question], condition: Condition, kept: AnswerLog,
    batch_size: int, share: Share,
) -> None:  # fmt: skip
    """Answers this process's chunks and keeps each when it is done.

    Chunks do not depend on the number of processes or on what is kept already (a torn chunk is answered whole), so a
    batch holds the same questions in every run and gives the same answers.
    """
    size = BATCHES_A_CHUNK * batch_size
    chunks = [questions[start : start + size] for start in range(0, len(questions), size)]
    mine = chunks[share.process :: share.processes]
    for chunk in tqdm(mine, desc=f"answering ({condition.name})", unit="chunk", disable=share.process > 0 or None):
        drafts = [draft_answer(listener, question, condition) for question in chunk]
        heard = [condition.heard_hash(question.clip_id) for question in chunk]
        if any((draft.id, sound) not in kept.known for draft, sound in zip(drafts, heard, strict=True)):
            kept.append(answer_chunk(listener, chunk, drafts, condition, batch_size), heard)


def draft_answer(listener: Listener, question: Question, condition: Condition) -> Answer:
    """The record of an answer before it is given."""
    generation = listener.generation | ({} if condition.name == "own" else {"control": condition.name})
    fields = asdict(question) | {"references": list(question.references)}
    key = answer_id(question.clip_id, question.start_s, question.question, generation)
    return Answer(id=key, audio=question.clip_id, model=listener.name, generation=generation, **fields)


def finish_answer(listener: Listener, question: Question, condition: Condition, kept: AnswerLog) -> Answer:
    """The record of an answer that is kept: all but what the model gave is as the question stands today."""
    draft = draft_answer(listener, question, condition)
    return replace(draft, **kept.known[draft.id, condition.heard_hash(question.clip_id)])


def answer_chunk(
    listener: Listener, chunk: Sequence[Question], drafts: Sequence[Answer], condition: Condition, batch_size: int
) -> list[Answer]:
    """The drafts with predictions."""

    def pairs() -> Iterator[tuple[str, torch.Tensor, list[int] | None]]:
        for question in chunk:
            prompt = listener.prompt_ids(question.question if condition.asks else None)
            yield question.clip_id, torch.from_numpy(condition.read(question.clip_id)), prompt

    answers: dict[int, Answer] = {}
    for index, tokens, score in listener.model.answer_many(pairs(), batch_size=batch_size, **listener.settings):
        given: dict[str, Any] = {"prediction": listener.decode(tokens), "score": round(score, 4)}
        answers[index] = Answer(**(asdict(drafts[index]) | given))
    return [answers[index] for index in range(len(chunk))]
