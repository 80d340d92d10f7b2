"""What descriptions say, as facts that are sure, as text of three styles, and as a row of a table."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Required, TypedDict

from descant.data.tables import Problem, read_table
from descant.files import Record
from descant.publish.facts import MENDED, check

STYLES = ("short", "long", "tags")
CHOSEN = ("genre", "mood", "energy", "tempo_class", "metre", "voice", "electronic")  # of one of several options
# What is measured is sure from these confidences on: how even the beats are, how far a key is ahead of the next.
SURE_BPM, SURE_KEY = 0.8, 0.05
YES, NO = "yes", "no"
# Genres that no sentence can end with: "Slow electronic music.", but "Slow jazz."
NO_NOUNS = {"ambient", "christmas", "classical", "country", "electronic", "latin", "new age", "world"}

Description = Mapping[str, Any]


class AnswerShape(TypedDict, total=False):
    """A typed answer, as far as it is read here."""

    type: Required[str]
    sure: Required[bool]
    heard: list[tuple[float, float]]
    reason: str | None
    noul: float
    probabilities: dict[str, float]
    legend: dict[str, str] | None


class CaptionShape(TypedDict, total=False):
    """A caption and the names of answers that it contradicts."""

    text: Required[str]
    contradicts: list[str]


class NumberShape(TypedDict):
    """A number that was measured."""

    value: float | None
    confidence: float | None


class KeyShape(TypedDict):
    """A key that was measured."""

    value: str | None
    confidence: float | None


class MeasuredShape(TypedDict, total=False):
    """What was measured of a track."""

    bpm: NumberShape | None
    key: KeyShape | None
    loudness_lufs: NumberShape | None


class DescriptionShape(TypedDict):
    """A description, as far as it is read here."""

    audio: str
    duration_s: float
    caption: CaptionShape | None
    decisions: dict[str, Any]
    measured: MeasuredShape | None
    model: str


@dataclass(frozen=True)
class Fact:
    """The likeliest option of an answer, its probability, and whether that reaches the model's threshold."""

    value: str
    probability: float
    sure: bool

    def holds(self, least: float | None) -> bool:
        """Return whether it is sure; with `least`, whether its probability is that high."""
        return self.sure if least is None else self.probability >= least


@dataclass(frozen=True)
class Facts:
    """What is sure about a track; None or empty where nothing is. bpm: beats a minute."""

    genres: tuple[str, ...] = ()
    mood: str | None = None
    energy: str | None = None
    tempo: str | None = None
    metre: str | None = None
    sound: str | None = None
    singing: str | None = None  # "female voice", "male voice", "singing" or "no singing"
    instruments: tuple[str, ...] = ()
    bpm: float | None = None
    key: str | None = None


def read_fact(answer: Mapping[str, Any]) -> Fact | None:
    """Return what an answer of a description states; None where it was left open for a reason."""
    if answer.get("reason"):
        return None
    if answer["type"] == "noul":
        probability = float(answer["noul"])
        return Fact(YES if probability >= 0.5 else NO, max(probability, 1 - probability), bool(answer["sure"]))
    probabilities = answer["probabilities"]
    best = max(probabilities, key=probabilities.__getitem__)
    value = answer["legend"][best] if answer["type"] == "score" else best
    return Fact(str(value), float(probabilities[best]), bool(answer["sure"]))


def sure_facts(description: Description, least: float | None = None) -> Facts:
    """Return what is sure about a track.

    least: in place of the model's own thresholds, the probability from which on an option counts; several genres may.
    """
    decisions = description["decisions"]
    held = {name: _held(decisions[name], least) for name in (*CHOSEN, "vocals")}
    bpm, key = sure_measures(description)
    instruments = decisions["instruments"].items()
    return Facts(
        tuple(_genres(decisions["genre"], least)), held["mood"], held["energy"], held["tempo_class"], held["metre"],
        held["electronic"], _singing(held["vocals"], held["voice"]),
        tuple(name for name, answer in instruments if _held(answer, least) == YES), bpm, key,
    )  # fmt: skip


def _held(answer: Mapping[str, Any], least: float | None) -> str | None:
    fact = read_fact(answer)
    return fact.value if fact and fact.holds(least) else None


def _genres(answer: Mapping[str, Any], least: float | None) -> list[str]:
    """Return the genres that are likely enough, the likeliest first."""
    if answer.get("reason"):
        return []
    if least is None:
        return list(filter(None, [_held(answer, None)]))
    ranked = sorted(answer["probabilities"].items(), key=lambda pair: -pair[1])
    return [genre for genre, probability in ranked if probability >= least]


def _singing(vocals: str | None, voice: str | None) -> str | None:
    if vocals != YES:
        return "no singing" if vocals == NO else None
    return "singing" if voice is None or voice.startswith("no ") else f"{voice} voice"


def sure_measures(description: Description) -> tuple[float | None, str | None]:
    """Return BPM and key where music is heard and they were measured and are sure, else None."""
    if description["decisions"]["genre"].get("heard") == []:
        return None, None  # hum and clicks have something like them too
    measured = description["measured"] or {}
    bpm, key = (measured.get(name) or {} for name in ("bpm", "key"))
    sure_bpm = bpm.get("value") is not None and (bpm["confidence"] or 0) >= SURE_BPM
    sure_key = key.get("value") is not None and (key["confidence"] or 0) >= SURE_KEY
    return (bpm["value"] if sure_bpm else None), (key["value"] if sure_key else None)


# Text


def write_text(description: Description, style: str) -> str:
    """Return the caption of a track in one of the `STYLES`; "" where no music is heard.

    short: one sentence from what is sure, or the first of the model's caption where nothing is. long: the model's
    caption, unless it contradicts what is sure, and that sentence. tags: what is sure, separated by commas.
    """
    if description["caption"] is None:
        return ""
    facts, caption = sure_facts(description), " ".join(description["caption"]["text"].split())
    if style == "tags":
        return ", ".join(list_tags(facts))
    sentence = write_sentence(facts)
    if style == "short":
        return sentence or re.split(r"(?<=[.!?]) ", caption)[0]
    return " ".join(filter(None, [None if contradicts_sure(description) else caption, sentence]))


def contradicts_sure(description: Description) -> bool:
    """Return whether the caption of a track contradicts an answer that is sure."""
    decisions = description["decisions"]
    answers = decisions | {f"instruments.{name}": answer for name, answer in decisions["instruments"].items()}
    return any(answers[name]["sure"] for name in description["caption"].get("contradicts", ()) if name in answers)


def list_tags(facts: Facts) -> list[str]:
    """Return facts as tags: genres, mood, energy, tempo, voice, instruments, metre, BPM, key."""
    measured = [f"{facts.bpm:.0f} BPM" if facts.bpm else None, facts.key]
    sound = [facts.mood, facts.energy, facts.tempo, facts.sound, facts.singing]
    return list(dict.fromkeys(filter(None, [*facts.genres, *sound, *facts.instruments, facts.metre, *measured])))


def write_sentence(facts: Facts) -> str:
    """Return facts as a sentence: "Calm slow jazz with piano and bass, no singing, in 4/4, 92 BPM."; "" for none."""
    sound = None if facts.sound in facts.genres else facts.sound  # electronic music that sounds electronic
    tempo = "medium-tempo" if facts.tempo == "medium" else facts.tempo
    described = list(dict.fromkeys(filter(None, [facts.mood, tempo, sound])))
    played = f"with {join_words(facts.instruments)}" if facts.instruments else ""
    rest = [facts.singing, f"in {facts.metre}" if facts.metre else None]
    rest += [f"{facts.bpm:.0f} BPM" if facts.bpm else None, facts.key]
    if not (described or facts.genres or played or any(rest)):
        return ""
    noun = "music" if not facts.genres or facts.genres[-1] in NO_NOUNS else ""
    head = " ".join(filter(None, [*described, join_words(facts.genres), noun, played]))
    text = ", ".join(filter(None, [head, *rest]))
    return f"{text[:1].upper()}{text[1:]}."


def join_words(words: Sequence[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`; "" for no words."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


# Tables

COLUMNS = (
    "audio", "duration_s", "caption", "genre", "mood", "energy", "tempo", "metre", "singing", "sound", "instruments",
    "bpm", "key", "loudness_lufs", "model",
)  # fmt: skip


def to_row(description: Description, style: str) -> dict[str, Any]:
    """Return a description as a row with the `COLUMNS`; what is not sure is None."""
    facts = sure_facts(description)
    loudness = ((description["measured"] or {}).get("loudness_lufs") or {}).get("value")
    cells = (
        description["audio"], description["duration_s"], write_text(description, style), "; ".join(facts.genres),
        facts.mood, facts.energy, facts.tempo, facts.metre, facts.singing, facts.sound, "; ".join(facts.instruments),
        facts.bpm, facts.key, loudness, description["model"],
    )  # fmt: skip
    return {name: None if cell == "" else cell for name, cell in zip(COLUMNS, cells, strict=True)}


def is_description(record: Record) -> bool:
    """Return whether a record has what is read here of a description."""
    decisions = record.get("decisions")
    return (
        {"audio", "duration_s", "caption", "decisions", "measured", "model"} <= record.keys()
        and isinstance(record["audio"], str)
        and isinstance(decisions, dict)
        and isinstance(decisions.get("instruments"), dict)
        and {*CHOSEN, "vocals"} <= decisions.keys()
    )


def read_descriptions(path: Path) -> tuple[list[Record], list[Problem]]:
    """Read the descriptions of a .jsonl or .parquet file, and name the records that are none.

    Raises ValueError for a file that cannot be read, or that holds no description.
    """
    if path.suffix.lower() not in (".jsonl", ".parquet"):
        raise ValueError(f"{path}: descriptions are read from .jsonl or .parquet: give the .jsonl beside this file")
    good: list[Record] = []
    problems: list[Problem] = []
    for row, record in read_table(path).numbered:
        found = _unpack(record) if isinstance(record, dict) else record
        fault = _find_fault(found)
        if fault is None:
            good.append(found)
        else:
            problems.append(found if isinstance(found, Problem) else Problem(str(path), row, None, fault))
    if not good:
        raise ValueError(f"{path}: holds no descriptions: descant describe FOLDER --output {path} writes them")
    return good, problems


def _find_fault(found: Any) -> str | None:
    """Return why a record is no description that can be read; None where it is one."""
    if not (isinstance(found, dict) and is_description(found)):
        return "is no description"
    place = Path("it")
    try:
        check(found, DescriptionShape, place)
        answers = {name: answer for name, answer in found["decisions"].items() if name != "instruments"}
        answers |= {f"instruments.{name}": answer for name, answer in found["decisions"]["instruments"].items()}
        for name, answer in answers.items():
            check(answer, AnswerShape, place, f"decisions.{name}")
            if name.startswith("instruments.") and not answer.get("reason"):
                answer["noul"]
            read_fact(answer)
    except (KeyError, TypeError, ValueError) as error:
        told = str(error).removeprefix("it: ").removeprefix(".").removesuffix(f": {MENDED}")
        return f"is no description: {told}"
    return None


def _unpack(record: Record) -> Any:
    """Return the description that a row of a Parquet file carries as JSON; a line of JSONL is one itself."""
    if not isinstance(record.get("description"), str):
        return record
    try:
        return json.loads(record["description"])
    except (ValueError, RecursionError):
        return None


def find_sound(audio: str, folders: Iterable[Path] = (), named: Path | None = None) -> Path | None:
    """Return the file that a description is about: by its path as it stands, else below one of the folders.

    named: a folder that the user named, which comes before the one that the command is run in.
    """
    places = [*([named / audio] if named else []), Path(audio), *(folder / audio for folder in folders)]
    return next((path for path in places if os.path.isfile(path)), None)  # also where a name is too long for one


def pair_sounds(descriptions: Iterable[Record], folder: Path) -> Iterator[tuple[Record, Path | None]]:
    """Yield each description with the file that it is about, in the folder or elsewhere; None: it is not there."""
    for description in descriptions:
        yield description, find_sound(description["audio"], named=folder)
