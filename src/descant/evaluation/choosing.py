"""A model asked multiple-choice questions: every order of the options, other sounds as controls, all of it on disk.

A letter is never guessed: what holds none, and what a model is not sure of at all, is a refused answer.
"""

import hashlib
import io
import json
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Protocol, TypeVar

import numpy as np
from tqdm.auto import tqdm

from descant.answering.listener import Listener
from descant.data.audio import AudioError
from descant.data.storage import Source
from descant.evaluation.benchmarks import ChoiceItem
from descant.evaluation.controls import NOISE_RMS, derangement
from descant.evaluation.multiple_choice import as_choice, find_letter
from descant.files import JsonLines
from descant.program import name_error

Given = TypeVar("Given")

CONTROL_RATE, CONTROL_S = 16_000, 10
ASK_FOR_A_LETTER = "Answer with the option's letter from the given choices directly."


@dataclass(frozen=True)
class Asked:
    """A question with its options, in the order in which they are shown."""

    question: str
    options: tuple[str, ...]

    @property
    def prompt(self) -> str:
        """The question as text, with lettered options."""
        lines = [f"({letter}) {option}" for letter, option in letter_options(self.options).items()]
        return "\n".join([self.question, *lines, ASK_FOR_A_LETTER])


@dataclass(frozen=True)
class Choice:
    """What was chosen: an option's text, with its probability where the model gives one; None where it refused.

    said: the answer in words, or the reason of a refusal. error: why there is no answer at all.
    """

    chosen: str | None = None
    probability: float | None = None
    said: str = ""
    error: str | None = None


class Chooser(Protocol):
    """A model that answers multiple-choice questions about one sound at a time."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def fingerprint(self) -> str:
        """What decides its answers, as a word: answers of another one are never taken for this one's."""

    @property
    def workers(self) -> int:
        """How many sounds it may be asked about at a time."""

    def choose(self, audio: Source, asked: Sequence[Asked]) -> list[Choice]:
        """Answer questions about a sound, in their order; what cannot be answered is a Choice with an error."""


def read_letter(text: str, options: Sequence[str]) -> Choice:
    """Return the choice that an answer in words states; none is guessed (see `find_letter`)."""
    lettered = letter_options(options)
    letter = find_letter(text, lettered)
    return Choice(lettered[letter] if letter else None, said=text)


def read_decision(decided: Mapping[str, Any]) -> Choice:
    """Return the likeliest option of a typed answer; what was not decided for a `reason` is refused."""
    if "reason" in decided or not decided.get("probabilities"):
        return Choice(said=str(decided.get("reason", "no probabilities")))
    likeliest, probability = max(decided["probabilities"].items(), key=lambda pair: pair[1])
    return Choice(likeliest, float(probability))


class ListenerChooser:
    """A model of descant: by the probabilities of the options, or by the letter that its answer in words gives."""

    workers = 1

    def __init__(self, listener: Listener, fingerprint: str, *, by_words: bool = False, hear: int | None = 12) -> None:
        """Prepare to ask. by_words: also where the model gives probabilities, which needs its `decision.json`."""
        self.listener, self.name, self.hear = listener, listener.name, hear
        self.by_words = by_words or listener.model.decision_config is None
        self.fingerprint = f"{fingerprint}-{'words' if self.by_words else 'probabilities'}-{hear or 'all'}"

    def choose(self, audio: Source, asked: Sequence[Asked]) -> list[Choice]:
        """Answer questions about a sound; see `Chooser`."""
        try:
            return self._by_words(audio, asked) if self.by_words else self._by_probability(audio, asked)
        except AudioError as error:
            silent = error.silent_s is not None
            return [Choice(said=str(error)) if silent else Choice(error=error.reason)] * len(asked)
        except Exception as error:  # one question that cannot be asked leaves the others
            if len(asked) == 1:
                return [Choice(error=name_error(error))]
            return [choice for one in asked for choice in self.choose(audio, [one])]

    def _by_words(self, audio: Source, asked: Sequence[Asked]) -> list[Choice]:
        given = self.listener.ask(audio, [one.prompt for one in asked], hear=self.hear)
        assert isinstance(given, list)
        return [read_letter(one.prediction or "", ask.options) for one, ask in zip(given, asked, strict=True)]

    def _by_probability(self, audio: Source, asked: Sequence[Asked]) -> list[Choice]:
        questions = {
            str(number): as_choice(one.question, letter_options(one.options)) for number, one in enumerate(asked)
        }
        decided = self.listener.decide(audio, questions, hear=self.hear)
        return [read_decision(decided[str(number)]) for number in range(len(asked))]


def letter_options(options: Sequence[str]) -> dict[str, str]:
    """Return options by their letters."""
    return dict(zip(ascii_uppercase, options, strict=False))


def rotate(options: Sequence[str], by: int) -> tuple[str, ...]:
    """Return the options with the first `by` of them at the end."""
    by %= len(options)
    return (*options[by:], *options[:by])


@dataclass(frozen=True)
class Answered:
    """An item under a condition, with its options rotated by so many."""

    item: ChoiceItem
    condition: str
    rotation: int
    choice: Choice

    @property
    def right(self) -> bool:
        """Whether the right option was chosen."""
        return self.choice.chosen == self.item.options[self.item.right]

    def to_record(self, model: str) -> dict[str, Any]:
        """Return what a line of answers holds."""
        item = asdict(self.item) | {"options": list(rotate(self.item.options, self.rotation))}
        item["right"] = self.item.options[self.item.right]
        return item | {"condition": self.condition, "rotation": self.rotation, "model": model} | asdict(self.choice)


def read_answered(record: Mapping[str, Any]) -> Answered:
    """Return what `to_record` wrote; raises ValueError, KeyError or TypeError for any other record."""
    fields = {name: record[name] for name in ("id", "clip", "audio", "question", "topic")}
    if not all(isinstance(value, str) for value in fields.values()):
        raise ValueError("id, clip, audio, question and topic are texts")
    turn, shown = int(record["rotation"]), tuple(map(str, record["options"]))
    options = rotate(shown, -turn)
    item = ChoiceItem(**fields, options=options, right=options.index(record["right"]))
    return Answered(item, str(record["condition"]), turn, _as_choice(record))


@dataclass(frozen=True)
class Sound:
    """What is played in the place of a clip, and a name that changes with it."""

    name: str
    source: Source


def control_sounds(items: Sequence[ChoiceItem], condition: str) -> dict[str, Sound]:
    """Return, by clip, the sound that is played under a condition: own, shuffled, noise or silence.

    Raises ValueError for fewer than two clips to shuffle.
    """
    own = {item.clip: Sound(item.clip, item.audio) for item in items}
    if condition == "own":
        return own
    if condition == "shuffled":
        return {clip: own[other] for clip, other in derangement(own, seed=0).items()}
    if condition == "silence":
        return dict.fromkeys(own, Sound("silence", to_wav(np.zeros(CONTROL_RATE * CONTROL_S))))
    return {clip: Sound(f"noise {clip}", make_noise(clip)) for clip in own}


def make_noise(clip: str) -> bytes:
    """Return white noise at −20 dBFS, seeded by the clip's id, as a WAV file."""
    seed = int.from_bytes(hashlib.sha256(clip.encode()).digest()[:8], "big")
    return to_wav(np.random.default_rng(seed).normal(scale=NOISE_RMS, size=CONTROL_RATE * CONTROL_S))


def to_wav(samples: np.ndarray) -> bytes:
    """Return a mono waveform (samples,) at 16 kHz as a WAV file of 16 bits."""
    with io.BytesIO() as content:
        with wave.open(content, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(CONTROL_RATE)
            file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        return content.getvalue()


Turn = tuple[ChoiceItem, int]  # an item, with its options rotated by so many


def answer_items(
    chooser: Chooser, items: Sequence[ChoiceItem], condition: str, rotations: int, folder: Path
) -> list[Answered]:
    """Ask every item under a condition with its options in so many orders; what the log in `folder` has is not asked.

    rotations: at most as many as an item has options. Each clip's answers are on disk as soon as all are given.
    """
    log = JsonLines(folder / f".choices-{hashlib.sha256(chooser.fingerprint.encode()).hexdigest()[:16]}.jsonl")
    known = {record["key"]: record for record in log.read() if "key" in record and not record.get("error")}
    sounds = control_sounds(items, condition)
    keys = {
        (item, turn): _key(item, sounds[item.clip].name, turn)
        for item in items for turn in range(min(rotations, len(item.options)))
    }  # fmt: skip
    missing: dict[str, list[Turn]] = {}
    for turn, key in keys.items():
        if key not in known:
            missing.setdefault(turn[0].clip, []).append(turn)

    def ask(clip: str) -> tuple[str, list[Choice]]:
        asked = [Asked(item.question, rotate(item.options, turn)) for item, turn in missing[clip]]
        return clip, chooser.choose(sounds[clip].source, asked)

    for clip, choices in ask_all(ask, list(missing), condition, chooser.workers):
        records = [{"key": keys[turn], **asdict(one)} for turn, one in zip(missing[clip], choices, strict=True)]
        log.append(*records, sync=True)
        known |= {record["key"]: record for record in records}
    return [Answered(item, condition, turn, _as_choice(known[key])) for (item, turn), key in keys.items()]


def ask_all(ask: Callable[[str], Given], keys: Sequence[str], condition: str, workers: int) -> Iterator[Given]:
    """Ask one after the other, or several at a time, and give each answer as it comes: none waits for a slow one."""
    with tqdm(total=len(keys), desc=f"asking ({condition})", disable=None) as bar:
        if workers == 1:
            for key in keys:
                yield ask(key)
                bar.update()
            return
        with ThreadPoolExecutor(workers) as pool:
            try:
                for given in as_completed([pool.submit(ask, key) for key in keys]):
                    yield given.result()
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # after a refused key, or Ctrl-C, nothing more is sent
                raise


def _key(item: ChoiceItem, sound: str, turn: int) -> str:
    asked = [sound, item.question, *rotate(item.options, turn)]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]


def _as_choice(record: Mapping[str, Any]) -> Choice:
    return Choice(record["chosen"], record["probability"], record["said"], record["error"])
