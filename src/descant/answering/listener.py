"""A loaded model that answers questions about recordings of any length, all windows and questions in one stream."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from tqdm import tqdm
from transformers import PreTrainedModel, ProcessorMixin

from descant.answering.model_folder import ModelFolderError, find_model, load_model
from descant.answering.typed_answers import decide_file
from descant.data.audio import AudioError, Window, stream_windows

if TYPE_CHECKING:
    from descant.data.annotations import Row
    from descant.data.collator import FeatureReader

Item = TypeVar("Item")


@dataclass(frozen=True)
class Answer:
    """A line of answers.jsonl. A file that cannot be read has one, with `error` and without a window and prediction.

    start_s, end_s: seconds. score: length-normalised log-probability of the prediction. generation: all settings that
    decide the answer.
    """

    id: str
    clip_id: str
    audio: str
    start_s: float | None
    end_s: float | None
    question: str | None
    model: str
    generation: Mapping[str, Any]
    question_type: str | None = None
    prediction: str | None = None
    references: list[str] = field(default_factory=list)
    score: float | None = None
    error: str | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the fields as a line of answers.jsonl holds them."""
        return asdict(self)

    def to_json(self) -> str:
        """Return the answer as one line of JSON."""
        return json.dumps(self.to_record(), ensure_ascii=False)


def answer_id(audio: str, start_s: float | None, question: str | None, generation: Mapping[str, Any]) -> str:
    """The key by which a second run knows an answer that it has: sha1, in hexadecimal."""
    key = json.dumps([audio, start_s, question, generation], sort_keys=True, ensure_ascii=False)
    return hashlib.sha1(key.encode("utf-8", "surrogateescape")).hexdigest()


def in_order(numbered: Iterable[tuple[int, Item]]) -> Iterator[Item]:
    """Gives items, numbered from 0 and in any order, in the order of their numbers; early ones are held back."""
    early: dict[int, Item] = {}
    following = 0
    for number, item in numbered:
        early[number] = item
        while following in early:
            yield early.pop(following)
            following += 1


Pair = tuple[tuple[str, float], torch.Tensor, list[int] | None]
ReadWindows = Callable[[Path, int, float], Collection[Window]]


@dataclass(frozen=True)
class Recording:
    """A sound file and the name under which its answers are kept."""

    path: Path
    audio: str

    @property
    def clip_id(self) -> str:
        return self.path.stem


class Listener:
    """A model, its processor and the settings with which it answers."""

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, name: str, **generation: Any) -> None:
        """
        name: what `Answer.model` says. generation: settings of `generate`; the model's own hold for the others. A
        `seed`, with which the caller has seeded torch, and the `weights`' fingerprint are only kept with the answers.
        """
        self.model, self.processor, self.name = model, processor, name
        self.settings = {key: value for key, value in generation.items() if key not in ("seed", "weights")}
        own = model.generation_config.to_diff_dict()
        own.pop("transformers_version", None)
        self.generation = {**own, **generation, "precision": str(model.dtype).removeprefix("torch.")}
        self.prompt_ids = lru_cache(maxsize=1024)(processor.prompt_ids)

    @classmethod
    def load(
        cls, source: str, precision: str = "fp32", device: torch.device | None = None, **generation: Any
    ) -> "Listener":
        """From a folder or the Hub, onto the GPU where there is one; raises ModelFolderError.

        precision: fp32, bf16 or int8. A model that has such a tier answers in it; others take their weights to bf16.
        """
        model, processor = load_model(find_model(source))
        model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if precision in model.tiers:
            generation |= {} if precision == "fp32" else {"tier": precision}
        elif precision == "int8":
            raise ModelFolderError(f"{source}: does not answer in int8; give another precision")
        elif precision == "bf16":
            model.to(torch.bfloat16)
        return cls(model, processor, source, **generation)

    def decide(self, audio: str | Path, questions: Mapping[str, Any], hear: int | None = 12) -> dict[str, Any]:
        """Answer System One's questions about a sound file, by their names; see `TrackDecider.decide`."""
        return decide_file(self.model, self.processor, questions, audio, hear).answers

    @property
    def features(self) -> Any:
        """What computes the features that a feature store keeps for this model."""
        return self.model.cached_features(self.processor.feature_extractor)

    def extract_features(self, window: Window) -> torch.Tensor:
        rate = self.processor.feature_extractor.sampling_rate
        return self.processor(audio=[window.samples], sampling_rate=rate, return_tensors="pt")["input_features"][0]

    def decode(self, token_ids: Sequence[int]) -> str:
        return self.processor.batch_decode([token_ids], skip_special_tokens=True)[0].strip()


class Asking:
    """Questions on their way through the model; iterating gives (number in the order of asking, answer) when done."""

    def __init__(
        self,
        listener: Listener,
        recordings: Iterable[Recording],
        questions: Sequence[str | None],
        *,
        batch_size: int = 32,
        known: frozenset[str] = frozenset(),
        read_windows: ReadWindows = stream_windows,
    ) -> None:
        """
        questions: asked of every window; None asks for a caption.
        known: ids of answers that are not asked for again.
        read_windows: (path, sampling rate, window in seconds) → windows, raising AudioError.
        """
        self.listener, self.recordings, self.questions = listener, recordings, questions
        self.batch_size, self.known, self.read_windows = batch_size, known, read_windows
        self.expected = 0  # answers and bad files, of the recordings that have been opened so far
        self.asked = 0
        self._waiting: dict[int, tuple[int, Answer]] = {}  # position in the model's stream → number, answer to be
        self._failed: list[tuple[int, Answer]] = []

    def __iter__(self) -> Iterator[tuple[int, Answer]]:
        listener = self.listener
        stream = listener.model.answer_many(self._pairs(), batch_size=self.batch_size, **listener.settings)
        for position, token_ids, score in stream:
            yield from self._pop_failed()
            number, answer = self._waiting.pop(position)
            yield number, replace(answer, prediction=listener.decode(token_ids), score=score)
        yield from self._pop_failed()

    def _pop_failed(self) -> list[tuple[int, Answer]]:
        failed, self._failed = self._failed, []
        return failed

    def _pairs(self) -> Iterator[Pair]:
        """What the model takes, read as it asks for more; a recording that cannot be read becomes a failed answer."""
        position = 0
        for recording in self.recordings:
            try:
                windows = self._windows(recording)
                self.expected += len(windows) * len(self.questions)
                for window in windows:
                    for pair, answer in self._questions_about(recording, window):
                        self._waiting[position] = (self.asked, answer)
                        self.asked += 1
                        position += 1
                        yield pair
            except AudioError as error:
                self._failed.append((self.asked, self._answer(recording, None, None, error=error.reason)))
                self.asked += 1
                self.expected += 1

    def _windows(self, recording: Recording) -> Collection[Window]:
        extractor = self.listener.processor.feature_extractor
        return self.read_windows(recording.path, extractor.sampling_rate, extractor.window_s)

    def _questions_about(self, recording: Recording, window: Window) -> Iterator[tuple[Pair, Answer]]:
        answers = [self._answer(recording, window, question) for question in self.questions]
        wanted = [answer for answer in answers if answer.id not in self.known]
        features = self.listener.extract_features(window) if wanted else None
        for answer in wanted:
            key = (recording.audio, window.start_s)
            yield (key, features, self.listener.prompt_ids(answer.question)), answer

    def _answer(
        self, recording: Recording, window: Window | None, question: str | None, error: str | None = None
    ) -> Answer:
        start_s, end_s = (window.start_s, window.end_s) if window else (None, None)
        generation = self.listener.generation
        return Answer(
            id=answer_id(recording.audio, start_s, question, generation),
            clip_id=recording.clip_id,
            audio=recording.audio,
            start_s=start_s,
            end_s=end_s,
            question=question,
            model=self.listener.name,
            generation=generation,
            error=error,
        )


def answer_rows(
    model: PreTrainedModel, processor: ProcessorMixin, rows: "Sequence[Row]", features: "FeatureReader", *,
    heard: Mapping[str, str] | None = None, batch_size: int = 32, progress: str | None = None, **generation: Any,
) -> list[str]:  # fmt: skip
    """Answers in the order of `rows`.

    Args:
        model: any model with `answer_many`.
        features: gives (bands, frames) for a clip id.
        heard: clip id → the clip that is heard in its place (the shuffled-audio control).
        progress: title of a progress bar on stderr.
        generation: settings of `generate`.
    """
    prompts = {question: processor.prompt_ids(question) for question in {row.question for row in rows}}

    def pairs() -> Iterator[tuple[str, torch.Tensor, list[int] | None]]:
        for row in rows:
            clip_id = heard[row.clip_id] if heard else row.clip_id
            yield clip_id, torch.from_numpy(features.read(clip_id)), prompts[row.question]

    token_ids: list[list[int]] = [[]] * len(rows)
    stream = model.answer_many(pairs(), batch_size=batch_size, **generation)
    for index, tokens, _ in tqdm(stream, total=len(rows), desc=progress, disable=progress is None):
        token_ids[index] = tokens
    return [text.strip() for text in processor.batch_decode(token_ids, skip_special_tokens=True)]


def show_progress(asking: "Asking") -> Iterator[tuple[int, "Answer"]]:
    """Passes the answers on and counts them; the total grows with each recording that is opened."""
    with tqdm(desc="answering", unit=" answers", disable=None, leave=False, dynamic_ncols=True) as bar:
        for numbered in asking:
            bar.total = asking.expected
            bar.update()
            yield numbered
