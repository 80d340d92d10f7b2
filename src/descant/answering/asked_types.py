"""Questions in free words that are of a trained type: decided for the whole track with a probability, or left open."""

from collections.abc import Collection, Sequence
from typing import Any

from descant.answering.listener import Listener
from descant.answering.typed_answers import REASONS, as_span
from descant.data.audio import Window, read_some_windows
from descant.data.storage import Source, name_source
from descant.models.lp_music_caps.decision_music import QuestionType, plain_words
from descant.models.lp_music_caps.track_music import TrackDecider, state


class TypedQuestions:
    """Those of some questions whose wording is one of a type's, for a model with `decision.json`.

    A track is read and encoded once, by `read_windows`, for them and for the questions in free words.
    """

    def __init__(self, listener: Listener, questions: Sequence[str | None], hear: int | None) -> None:
        self.listener, self.hear = listener, hear
        config = listener.model.decision_config
        types = {} if config is None else config.types()
        found = {text: find_worded(text, types) for text in questions if text is not None}
        self.kinds = {text: kind for text, kind in found.items() if kind is not None}
        asked = {
            text: {"type": "choice", "instructions": text, "criteria": dict.fromkeys(kind.answers)}
            for text, kind in self.kinds.items()
        }
        self.decider = TrackDecider(listener.model, listener.processor, asked) if asked else None
        self.decided: dict[str, dict[str, dict[str, Any]]] = {}  # by the name of each track that was read

    def decide(self, windows: Collection[Window]) -> dict[str, dict[str, Any]]:
        """Return what is decided about a track, `text`, `probability`, `sure`, by the questions that are of a type."""
        answers = self.decider.decide(map(as_span, windows)) if self.decider else {}
        return {question: state_in_words(answer, self.kinds[question]) for question, answer in answers.items()}

    def read_windows(self, path: Source, sampling_rate: int, window_s: float) -> Collection[Window]:
        """Return the windows of a track that are heard, after deciding about it; raises AudioError."""
        windows = read_some_windows(path, sampling_rate, window_s, count=self.hear)
        if self.decider:
            windows = self.listener.encode(windows)
            self.decided[name_source(path)] = self.decide(windows)
        return windows

    def find(self, audio: str, question: str | None) -> dict[str, Any] | None:
        """Return what was decided about a track that was read, by its name; None for a question of no type."""
        return self.decided.get(audio, {}).get(question or "")


def state_in_words(answer: dict[str, Any], kind: QuestionType) -> dict[str, Any]:
    """Return the sentence of a decided question, whether it is sure, and its probability where music is heard."""
    if answer.get("reason"):
        return {"text": REASONS[answer["reason"]].capitalize(), "probability": None, "sure": False}
    option, probability = state(answer)
    sentence = kind.answers[option][0]
    text = sentence if answer["sure"] else f"Not sure: {sentence[:-1]}?"
    return {"text": text, "probability": round(probability, 4), "sure": bool(answer["sure"])}


def find_worded(question: str, types: dict[str, QuestionType]) -> QuestionType | None:
    """Return the type that has a question of these words."""
    words = plain_words(question)
    return next((kind for kind in types.values() if words in map(plain_words, kind.questions)), None)
