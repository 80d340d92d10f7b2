"""Questions in free words that are of a trained type: decided for the whole track with a probability, or left open."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from descant.answering.listener import Listener
from descant.answering.recordings import ReadWindows
from descant.answering.typed_answers import REASONS, Decider
from descant.data.storage import Source
from descant.models.lp_music_caps.decision_music import QuestionType, normalise
from descant.models.lp_music_caps.track_music import state


class TypedQuestions:
    """Those of some questions whose wording is one of a type's, for a model with `decision.json`."""

    def __init__(self, listener: Listener, questions: Sequence[str | None], hear: int | None) -> None:
        config = listener.model.decision_config
        types = {} if config is None else config.types()
        found = {text: find_worded(text, types) for text in questions if text is not None}
        self.kinds = {text: kind for text, kind in found.items() if kind is not None}
        asked = {
            text: {"type": "choice", "instructions": text, "criteria": dict.fromkeys(kind.answers)}
            for text, kind in self.kinds.items()
        }
        self.decider = Decider(listener.model, listener.processor, asked, hear) if asked else None
        self.decide = lru_cache(maxsize=1)(self._decide)

    def _decide(self, audio: Source, read_windows: ReadWindows | None) -> dict[str, dict[str, Any]]:
        return self.decider.decide(audio, read_windows).answers if self.decider else {}

    def find(
        self, audio: Source, question: str | None, read_windows: ReadWindows | None = None
    ) -> dict[str, Any] | None:
        """Return what is decided: `text`, `probability`, `sure`; None for a question of no type.

        read_windows: gives windows in place of the file's.
        """
        kind = self.kinds.get(question or "")
        if kind is None or question is None:
            return None
        answer = self.decide(audio, read_windows)[question]
        if answer.get("reason"):
            return {"text": REASONS[answer["reason"]].capitalize(), "probability": None, "sure": False}
        option, probability = state(answer)
        sentence = kind.answers[option][0]
        text = sentence if answer["sure"] else f"Not sure: {sentence[:-1]}?"
        return {"text": text, "probability": round(probability, 4), "sure": bool(answer["sure"])}


def find_worded(question: str, types: dict[str, QuestionType]) -> QuestionType | None:
    """Return the type that has a question of these words."""
    words = normalise(question)
    return next((kind for kind in types.values() if words in map(normalise, kind.questions)), None)
