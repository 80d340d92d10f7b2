"""Descriptions that no model made: what they say is what a test wants them to say."""

from typing import Any


def choice(probabilities: dict[str, float], sure: bool = True) -> dict[str, Any]:
    best = max(probabilities, key=probabilities.__getitem__)
    return {
        "type": "choice", "choice": best, "probabilities": probabilities, "confidence": probabilities[best],
        "sure": sure, "heard": [[0.0, 30.0]], "question": "?",
    }  # fmt: skip


def noul(probability: float, sure: bool = True) -> dict[str, Any]:
    return {"type": "noul", "noul": probability, "sure": sure, "heard": [[0.0, 30.0]], "question": "?"}


def level(probabilities: list[float], legend: list[str], sure: bool = True) -> dict[str, Any]:
    numbers = list(map(str, range(len(legend))))
    return {
        "type": "score", "score": 1.0, "legend": dict(zip(numbers, legend, strict=True)), "sure": sure,
        "question": "?", "probabilities": dict(zip(numbers, probabilities, strict=True)), "heard": [[0.0, 30.0]],
    }  # fmt: skip


def split(options: tuple[str, ...], best: str, probability: float) -> dict[str, float]:
    rest = (1 - probability) / (len(options) - 1)
    return {option: probability if option == best else rest for option in options}


GENRES = ("classical", "electronic", "jazz", "rock")
MOODS = ("happy", "sad", "calm", "tense")
TEMPI = ("slow", "medium", "fast")


def describe(
    audio: str,
    genre: str = "jazz",
    probability: float = 0.9,
    mood: str = "calm",
    tempo: str = "slow",
    playing: tuple[str, ...] = ("piano", "bass"),
    vocals: float = 0.05,
    bpm: float | None = 92.0,
    caption: str | None = "A quiet evening. A second sentence.",
    **changes: Any,
) -> dict[str, Any]:
    """Return a whole description of the published schema."""
    decisions = {
        "genre": choice(split(GENRES, genre, probability), sure=probability >= 0.5),
        "mood": choice(split(MOODS, mood, 0.8)),
        "energy": level([0.7, 0.2, 0.1], ["calm", "moderate", "driving"], sure=False),
        "tempo_class": choice(split(TEMPI, tempo, 0.8)),
        "metre": choice({"3/4": 0.1, "4/4": 0.9}),
        "voice": choice({"female": 0.6, "male": 0.4}, sure=False),
        "electronic": choice({"electronic": 0.4, "acoustic": 0.6}, sure=False),
        "vocals": noul(vocals),
        "instruments": {name: noul(0.9 if name in playing else 0.1) for name in ("piano", "bass", "drums", "flute")},
    }
    measured = None if bpm is None else {
        "bpm": {"value": bpm, "confidence": 0.95}, "key": {"value": "C sharp minor", "confidence": 0.1},
        "loudness_lufs": {"value": -14.0, "confidence": None}, "silence_share": {"value": 0.0, "confidence": None},
        "measured_s": 30.0,
    }  # fmt: skip
    whole = caption and {"text": caption, "heard": [[0.0, 30.0]], "windows": 2, "of": 3}
    return {
        "audio": audio, "duration_s": 30.0, "caption": whole, "decisions": decisions, "measured": measured,
        "model": "made up", **changes,
    }  # fmt: skip
