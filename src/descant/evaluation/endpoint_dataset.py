"""The questions of a data set asked of an endpoint, with audio controls, and scored as a model's on this machine."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from descant.answering.answers import Answer
from descant.data.audio import AudioError
from descant.data.clips import ClipAudio
from descant.data.corpus import Corpus
from descant.evaluation.choosing import CONTROL_RATE, CONTROL_S, ask_all, make_noise, to_wav
from descant.evaluation.controls import derangement
from descant.evaluation.endpoint import Endpoint, RequestError
from descant.evaluation.evaluate import (
    LOCK_FILE,
    EvaluationSettings,
    Question,
    answers_file,
    gather_questions,
    load_split,
    score_answers,
    write_results,
)
from descant.files import JsonLines, hold_lock
from descant.program import name_error

CAPTION_PROMPT = "Describe this music in one or two sentences."
LONGEST_CLIP_S = 600.0
CONDITIONS = ("own", "shuffled", "noise", "silence")
NO_QUESTION = "no_question"  # the clip's own sound, and a caption asked for in place of what is asked


@dataclass(frozen=True)
class Sounds:
    """What is sent in the place of each clip, as mono WAV at 16 kHz."""

    audio: dict[str, ClipAudio]
    others: dict[str, str]  # clip → another one, used once each
    silence: bytes

    def name(self, condition: str, clip: str) -> str:
        """Return a name that changes with the sound that stands for a clip; raises OSError, KeyError."""
        if condition in ("silence", "noise"):
            return condition if condition == "silence" else f"noise {clip}"
        return self.audio[self._heard(condition, clip)].sha256()

    def read(self, condition: str, clip: str) -> bytes:
        """Return the sound that stands for a clip; raises AudioError, OSError."""
        if condition in ("silence", "noise"):
            return self.silence if condition == "silence" else make_noise(clip)
        waveform, _ = self.audio[self._heard(condition, clip)].load(CONTROL_RATE, LONGEST_CLIP_S)
        return to_wav(waveform)

    def _heard(self, condition: str, clip: str) -> str:
        return self.others[clip] if condition == "shuffled" else clip


def evaluate_endpoint(
    endpoint: Endpoint, settings: EvaluationSettings, workers: int, prices: tuple[float | None, float | None]
) -> dict[str, Any]:
    """Ask the questions of a split that were not answered yet, and return the scores, which lie in the output folder.

    Captions are asked for by `CAPTION_PROMPT`, and so is the control without the question. What the model was trained
    on is not known, so no leak is looked for.

    Raises:
        ValueError: a question without sound, another run in the folder, or (EndpointError) no further answers.
    """
    corpus = load_split(settings)
    questions = gather_questions(corpus.rows(settings.config, settings.split))
    sounds = gather_sounds(corpus, questions, settings.controls)
    busy = f"another run writes into {settings.output_dir}: wait for it, or pass another --output_dir"
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    with hold_lock(settings.output_dir / LOCK_FILE, busy):
        conditions = choose_conditions(questions, settings.controls)
        for condition in conditions:
            answers = answer_condition(endpoint, questions, sounds, condition, settings, workers)
            JsonLines(answers_file(settings.output_dir, condition)).write(map(asdict, answers))
        result = score_answers(corpus, conditions, settings)
        result |= {"leak": {"checked": False, "clips": 0}, "decisions": {}}
        result["cost"] = endpoint.usage.to_record(*prices)
        write_results(settings.output_dir, result)
    return result


def choose_conditions(questions: Sequence[Question], controls: bool) -> tuple[str, ...]:
    """Return the conditions that are asked under; the one without a question only where questions are asked."""
    if not controls:
        return CONDITIONS[:1]
    asks = any(question.question is not None for question in questions)
    return (*CONDITIONS, NO_QUESTION) if asks else CONDITIONS


def write_prompt(question: Question, condition: str) -> str:
    """Return the text that is sent with a sound."""
    return CAPTION_PROMPT if condition == NO_QUESTION else question.question or CAPTION_PROMPT


def gather_sounds(corpus: Corpus, questions: Sequence[Question], controls: bool) -> Sounds:
    """Return the clips' sounds, those that cannot be sent left to be named; raises ValueError where there is none."""
    clips = [question.clip_id for question in questions if question.clip_id in corpus.audio]
    if not clips:
        raise ValueError(f"{corpus.id}: no clip of the split has a sound to send: pass --audio_dir")
    others = derangement(clips, seed=0) if controls else {}
    return Sounds(dict(corpus.audio), others, to_wav(np.zeros(CONTROL_RATE * CONTROL_S)))


def answer_condition(
    endpoint: Endpoint, questions: Sequence[Question], sounds: Sounds, condition: str, settings: EvaluationSettings,
    workers: int,
) -> list[Answer]:  # fmt: skip
    """Answer all questions under one condition, in their order; what the log in the output folder has is not asked.

    Each answer is on disk as soon as it is given. The same question about the same sound is asked once.
    """
    server = hashlib.sha256(f"{endpoint.url} {endpoint.model}".encode()).hexdigest()[:16]
    log = JsonLines(settings.output_dir / f".endpoint-{server}.jsonl")
    known = {record["id"]: record for record in log.read() if "id" in record}
    named = [identify(question, sounds, condition) for question in questions]
    missing = {key: question for key, question in zip(named, questions, strict=True)
               if key not in known and question.clip_id in sounds.audio}  # fmt: skip

    def ask(key: str) -> dict[str, Any]:
        return {"id": key} | answer_one(endpoint, missing[key], sounds, condition)

    for given in ask_all(ask, list(missing), condition, workers):
        known[given["id"]] = given
        if given["error"] is None:
            log.append(given, sync=True)
    no_sound = {"prediction": None, "error": "has no audio: pass --audio_dir"}
    return [
        as_answer(question, key, known.get(key, no_sound), endpoint.model, condition)
        for question, key in zip(questions, named, strict=True)
    ]


def identify(question: Question, sounds: Sounds, condition: str) -> str:
    """Return 32 hex digits of the sound that is sent and of what is asked about it."""
    try:
        sound = sounds.name(condition, question.clip_id)
    except (OSError, KeyError):  # which reading it will explain
        sound = question.clip_id
    asked = [sound, write_prompt(question, condition)]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]


def answer_one(endpoint: Endpoint, question: Question, sounds: Sounds, condition: str) -> dict[str, Any]:
    """Return prediction and error; where nothing can be said about a sound, that sentence is the prediction."""
    try:
        sound = sounds.read(condition, question.clip_id)
        return {"prediction": endpoint.ask(sound, "wav", write_prompt(question, condition)), "error": None}
    except RequestError as error:
        return {"prediction": str(error) if error.unheard else None, "error": None if error.unheard else str(error)}
    except (AudioError, OSError) as error:
        return {"prediction": None, "error": name_error(error)}


def as_answer(question: Question, key: str, given: Mapping[str, Any], model: str, condition: str) -> Answer:
    """Return a line of answers.jsonl."""
    fields = asdict(question) | {"references": list(question.references), "audio": question.clip_id}
    said = {"prediction": given["prediction"], "error": given["error"]}
    return Answer(id=key, model=model, generation={"condition": condition}, **fields, **said)
