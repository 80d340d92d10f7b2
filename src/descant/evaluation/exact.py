"""The exact-answer score of closed questions: an answer names what the reference names, and nothing else."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Protocol

from descant.data.terms import find_terms, normalise
from descant.evaluation.measures import Measure, ratio_of


class AnsweredRow(Protocol):
    """A dataset row, as far as this module reads it."""

    @property
    def question_type(self) -> str | None:
        """The type of the question, where it is known."""

    @property
    def answer(self) -> str:
        """The reference answer."""


def canonical_answer(answer: str, question_type: str | None) -> Hashable:
    """Return what an answer says: the set of terms that it names, or its normalised text where it names none."""
    return (find_terms(answer, question_type) if question_type else None) or normalise(answer)


def exact_answer(prediction: str, reference: str, question_type: str | None) -> bool:
    """Return whether both name the same terms of this question type (see `descant.data.terms`).

    Whole sentences are read for their terms. So a list of instruments is compared as a set, and an answer that names
    two genres where the reference names one is wrong. Where the reference names no known term, or the type is unknown,
    the normalised texts must be equal.
    """
    return canonical_answer(prediction, question_type) == canonical_answer(reference, question_type)


def majority_answers(train_rows: Iterable[AnsweredRow]) -> dict[str, str]:
    """Return the best answers that ignore the audio: by question type, the commonest wording of its commonest answer.

    Ties go to the answer that comes first in `train_rows`.
    """
    answers: defaultdict[str, Counter[Hashable]] = defaultdict(Counter)
    wordings: defaultdict[tuple[str, Hashable], Counter[str]] = defaultdict(Counter)
    for row in train_rows:
        if row.question_type is not None:
            meaning = canonical_answer(row.answer, row.question_type)
            answers[row.question_type][meaning] += 1
            wordings[row.question_type, meaning][row.answer] += 1
    commonest = {kind: meanings.most_common(1)[0][0] for kind, meanings in answers.items()}
    return {kind: wordings[kind, meaning].most_common(1)[0][0] for kind, meaning in commonest.items()}


def is_closed(question_type: str | None) -> bool:
    """Return whether a question of this type has an answer to be met exactly: every known type but the long ones."""
    return question_type is not None and not question_type.startswith("long")


def exact_measures(
    predictions: Sequence[str], references: Sequence[Sequence[str]], question_types: Sequence[str | None]
) -> list[Measure]:
    """Measure the share of closed questions answered exactly, over all (`exact`) and by type, where there are any."""
    rows = zip(predictions, references, question_types, strict=True)
    hits = [is_closed(kind) and any(exact_answer(text, one, kind) for one in texts) for text, texts, kind in rows]
    kinds = list(dict.fromkeys(kind for kind in question_types if is_closed(kind)))
    measures: list[Measure] = []
    if kinds:
        measures.append(ratio_of("exact", hits, [is_closed(kind) for kind in question_types]))
    for kind in kinds:
        asked = [other == kind for other in question_types]
        measures.append(ratio_of(f"exact_{kind}", [hit and was for hit, was in zip(hits, asked, strict=True)], asked))
    return measures


def majority_measures(
    train_rows: Iterable[AnsweredRow], references: Sequence[Sequence[str]], question_types: Sequence[str | None]
) -> list[Measure]:
    """Measure the best answers that ignore the audio; nothing where training rows do not answer every closed type."""
    fixed = majority_answers(train_rows)
    if any(is_closed(kind) and kind not in fixed for kind in question_types):
        return []
    return exact_measures([fixed.get(kind or "", "") for kind in question_types], references, question_types)
