"""A loaded model that answers questions about recordings of any length, all windows and questions in one stream.

`Listener.ask` answers from Python, `Listener.answer` is the stream that all who ask go through, `Asking` about files
among them. A question or a sound that fails, in whatever way, becomes that one's named
problem; nothing is answered where nothing can be heard.
"""

import json
import logging
import math
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from descant.answering.model_folder import ModelFolderError, find_model, load_model
from descant.answering.recordings import Audio, ReadWindows, Recording, answer_id, as_recording, as_track, in_order
from descant.answering.tracks import answer_track, read_window
from descant.answering.typed_answers import decide_file
from descant.data.audio import AudioError, Window, format_stamp, stream_windows
from descant.program import name_error, shorten

if TYPE_CHECKING:
    from descant.models.contract import FrontEnd, QuestionAnsweringModel, QuestionProcessor

log = logging.getLogger(__name__)

Label = TypeVar("Label")

LONGEST_QUESTION = 60  # characters of it in a message
MOST_FAILED = 64  # requests that wait for the model's next answer to be named


@dataclass(frozen=True)
class Answer:
    """A line of answers.jsonl.

    What cannot be answered has an `error` in place of the prediction; a window in which nothing can be heard has one
    such line, without a question, and a file that cannot be read one without a window. start_s, end_s: seconds.
    score: length-normalised log-probability of the prediction. generation: all settings that decide the answer.
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

    def describe_error(self) -> str:
        """Return what could not be answered and why, as `file: window: question: error`."""
        stamp = "" if self.start_s is None or self.end_s is None else format_stamp(self.start_s, self.end_s)
        question = shorten(" ".join((self.question or "").split()), LONGEST_QUESTION)
        return ": ".join(filter(None, [self.audio, stamp, question, self.error]))

    def to_record(self) -> dict[str, Any]:
        """Return the fields as a line of answers.jsonl holds them."""
        return asdict(self)

    def to_json(self) -> str:
        """Return the answer as one line of JSON."""
        return json.dumps(self.to_record(), ensure_ascii=False)


# The stream of answering


@dataclass(frozen=True)
class Request(Generic[Label]):
    """A question (None: a caption) about one sound, under the label by which the caller knows it.

    features: what the model's feature extractor gives for the sound, or the reason why there are none, which becomes
    the outcome. Requests with one key are about the same sound.
    """

    label: Label
    key: Hashable
    question: str | None
    features: torch.Tensor | str


@dataclass(frozen=True)
class Outcome:
    """A text with its score (length-normalised log-probability), or the reason why there is none."""

    text: str = ""
    score: float = math.nan
    error: str | None = None


class _Flight(Generic[Label]):
    """The requests on their way through one run of a model's `answer_many`."""

    def __init__(self, listener: "Listener", requests: Iterator[Request[Label]]) -> None:
        self.listener, self.requests = listener, requests
        self.waiting: dict[int, Request[Label]] = {}  # position in the run → request
        self.failed: list[tuple[Label, Outcome]] = []
        self.broken: Exception | None = None  # of the caller's requests, no fault of the model's
        self.ended = False  # all requests have been read

    def pairs(self) -> Iterator[tuple[Hashable, torch.Tensor, list[int] | None]]:
        """Give what the model takes, as it asks for more; end early where failures wait to be named."""
        position = 0
        while len(self.failed) < MOST_FAILED and (request := self._next()) is not None:
            try:
                pair = self._prepare(request)
            except Exception as error:
                self.failed.append((request.label, Outcome(error=name_error(error))))
                continue
            self.waiting[position] = request
            position += 1
            yield pair

    def _next(self) -> Request[Label] | None:
        try:
            request = next(self.requests, None)
        except Exception as error:
            self.broken = error
            raise
        self.ended = request is None
        return request

    def _prepare(self, request: Request[Label]) -> tuple[Hashable, torch.Tensor, list[int] | None]:
        if isinstance(request.features, str):
            raise ValueError(request.features)
        if not torch.isfinite(request.features).all():
            raise ValueError("its features hold NaN or infinite numbers")
        return request.key, request.features, self.listener.prompt_ids(request.question)

    def outcomes(self, batch_size: int) -> Iterator[tuple[Label, Outcome]]:
        """Give the outcomes as they come, in any order; what fails in the model's run is left in `waiting`."""
        model, settings = self.listener.model, self.listener.settings
        for position, token_ids, score in model.answer_many(self.pairs(), batch_size=batch_size, **settings):
            yield from self.pop_failed()
            request = self.waiting.pop(position)
            yield request.label, self.listener.judge(token_ids, score)
        yield from self.pop_failed()
        while self.waiting:
            yield self.waiting.popitem()[1].label, Outcome(error="the model gave no answer")

    def pop_failed(self) -> list[tuple[Label, Outcome]]:
        """Give each request that did not reach the model once."""
        failed, self.failed = self.failed, []
        return failed


class Listener:
    """A model, its processor and the settings with which it answers."""

    def __init__(
        self, model: "QuestionAnsweringModel", processor: "QuestionProcessor", name: str, **generation: Any
    ) -> None:
        """Join a model with its processor.

        Args:
            model: any model that answers questions about music.
            processor: that of the model.
            name: what `Answer.model` says.
            generation: settings of `generate`; the model's own hold for the others. `seed` and `weights` are not
                passed to `generate`; they are recorded with each answer.
        """
        self.model, self.processor, self.name = model, processor, name
        self.settings = {key: value for key, value in generation.items() if key not in ("seed", "weights")}
        own = model.generation_config.to_diff_dict()
        own.pop("transformers_version", None)
        self.generation = {**own, **generation, "precision": str(model.dtype).removeprefix("torch.")}
        self.prompt_ids = lru_cache(maxsize=1024)(processor.prompt_ids)

    @classmethod
    def load(
        cls, source: str | Path, precision: str = "fp32", device: torch.device | str | None = None, **generation: Any
    ) -> "Listener":
        """Load a folder or a model on the Hub, onto the GPU where there is one; raise ModelFolderError.

        precision: fp32, bf16 or int8. A model that has such a tier answers in it; others take their weights to bf16.
        """
        model, processor = load_model(find_model(source))
        model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if precision in model.tiers:
            generation |= {} if precision == "fp32" else {"tier": precision}
        elif precision == "bf16":
            model.to(torch.bfloat16)
        elif precision != "fp32":
            raise ModelFolderError(f"{source}: does not answer in {precision}; give another precision")
        return cls(model, processor, str(source), **generation)

    @property
    def features(self) -> "FrontEnd":
        """What computes the features that a feature store keeps for this model."""
        return self.model.cached_features(self.processor.feature_extractor)

    def extract_features(self, window: Window) -> torch.Tensor:
        """Return the features of a window's samples, as the model takes them."""
        rate = self.processor.feature_extractor.sampling_rate
        return self.processor(audio=[window.samples], sampling_rate=rate, return_tensors="pt")["input_features"][0]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of an answer's tokens."""
        return self.processor.batch_decode([token_ids], skip_special_tokens=True)[0].strip()

    def judge(self, token_ids: Sequence[int], score: float) -> Outcome:
        """Return the text of an answer, or why it cannot be used."""
        if not math.isfinite(score):
            return Outcome(error="the model's scores are no finite numbers: its weights, or this sound, are damaged")
        return Outcome(self.decode(token_ids), score)

    def answer(
        self, requests: Iterable[Request[Label]], batch_size: int = 32, *, refuses: bool = False
    ) -> Iterator[tuple[Label, Outcome]]:
        """Answer a stream of requests with bounded memory; every one has its outcome, in the order in which it comes.

        Where the model fails, the requests under way are answered in halves, down to the one that fails by itself,
        and the stream goes on.

        Args:
            requests: read as the model takes them, at most two batches ahead.
            batch_size: questions at a time.
            refuses: raise ValueError where of the first requests under way each fails, for the same reason: the
                settings or the only question are at fault.
        """
        stream, answered = iter(requests), False
        while True:
            flight = _Flight(self, stream)
            try:
                for label, outcome in flight.outcomes(batch_size):
                    answered = answered or outcome.error is None
                    yield label, outcome
                if flight.ended:
                    return
            except torch.AcceleratorError:  # the device, for good
                raise
            except Exception as error:
                if flight.broken is not None:
                    raise
                if not flight.waiting:  # before the first request: the settings, or the model
                    raise ValueError(f"the model cannot answer: {name_error(error)}") from error
                apart = list(self._answer_apart(list(flight.waiting.values()), batch_size))
                reasons = {outcome.error for _, outcome in apart}
                if refuses and not answered and len(reasons) == 1 and None not in reasons:
                    raise ValueError(*reasons) from error
                yield from (*flight.pop_failed(), *apart)
                answered = answered or None in reasons

    def _answer_apart(self, requests: Sequence[Request[Label]], batch_size: int) -> Iterator[tuple[Label, Outcome]]:
        middle = len(requests) // 2
        for half in filter(None, (requests[:middle], requests[middle:])):
            flight = _Flight(self, iter(half))
            try:
                yield from list(flight.outcomes(batch_size))
            except torch.AcceleratorError:
                raise
            except Exception as error:
                if len(half) == 1:
                    yield half[0].label, Outcome(error=name_error(error))
                else:
                    yield from self._answer_apart(half, batch_size)

    def ask(
        self, audio: Audio, question: str | None | Sequence[str | None] = None, *, windows: bool = False,
        hear: int | None = 12, sampling_rate: int | None = None,
    ) -> Answer | list[Answer]:  # fmt: skip
        """Answer questions about a recording of any length.

        Args:
            audio: a sound file's path, http(s) URL or bytes, or a waveform (samples,) or (samples, channels).
            question: a question, or a list of them; None asks for a caption.
            windows: return what is answered about each window of 10 s, in their order, in place of one answer about
                the whole: what its windows say most often, weighed by confidence.
            hear: without `windows`, how many of a file's windows are heard at most, spread evenly; None: all.
            sampling_rate: of a waveform, in Hz.

        Returns:
            An Answer; for several questions, or with `windows`, a list.

        Raises:
            AudioError: the sound cannot be read, or nothing can be heard in it.
            ValueError: a question that the model cannot be asked.
        """
        questions = [question] if question is None or isinstance(question, str) else list(question)
        with as_recording(audio, sampling_rate, self.processor.feature_extractor) as (recording, read):
            read = read if windows else as_track(read, hear)
            asked = list(in_order(Asking(self, [recording], questions, read_windows=read)))
        good = [answer for answer in asked if answer.error is None]
        if not good:
            raise AudioError(recording.audio, asked[0].error or "")
        if windows:
            return asked
        merged = [self._merge([answer for answer in asked if answer.question == one], recording) for one in questions]
        return merged[0] if question is None or isinstance(question, str) else merged

    def _merge(self, answers: Sequence[Answer], recording: Recording) -> Answer:
        """Return what the windows say, see `answer_track`, as one answer about the whole recording."""
        good = [answer for answer in answers if answer.error is None and answer.prediction is not None]
        if not good:
            raise ValueError(f"{recording.audio}: {answers[0].error}")
        track = answer_track(answers[0].question, list(map(read_window, good)))
        scores = [one.score for one in good if one.prediction == track.prediction and one.score is not None]
        ends = [answer.end_s for answer in answers if answer.end_s is not None]
        return replace(
            answers[0], id=answer_id(recording.audio, None, track.question, self.generation), start_s=0.0,
            end_s=max(ends), prediction=track.prediction, score=max(scores, default=None), error=None,
        )  # fmt: skip

    def answer_windows(
        self, audio: str | Path, windows: Collection[Window], questions: Sequence[str | None]
    ) -> list[Answer]:
        """Answer questions about windows of a recording that are at hand, in the order of windows and questions."""
        recording = Recording(Path(audio), str(audio))
        return list(in_order(Asking(self, [recording], questions, read_windows=lambda *_: windows)))

    def decide(
        self, audio: Audio, questions: Mapping[str, Any], *, hear: int | None = 12, sampling_rate: int | None = None
    ) -> dict[str, Any]:
        """Answer System One's questions about sound as `ask` takes it; see `TrackDecider.decide`."""
        with as_recording(audio, sampling_rate, self.processor.feature_extractor) as (recording, read):
            own = as_track(read, hear) if isinstance(audio, np.ndarray) else None
            return decide_file(self.model, self.processor, questions, recording.path, hear, own)

    def describe(self, audio: str | Path, hear: int | None = 12) -> dict[str, Any]:
        """Describe a whole track; see `descant.answering.description.Describer`."""
        from descant.answering.description import Describer

        return Describer(self, hear).describe(audio)


def load(
    model: str | Path, *, precision: str = "fp32", device: torch.device | str | None = None, **generation: Any
) -> Listener:
    """Load a model that answers questions about music: `descant.load("MODEL").ask("song.mp3", "What is the mood?")`.

    Args:
        model: a folder, or an id on the Hub.
        precision: fp32, bf16 or int8; the lower ones are faster where the processor has them, and change answers.
        device: by default the GPU where there is one.
        generation: settings of `generate`, such as `num_beams=1`.

    Raises:
        ModelFolderError: there is no such model, or it cannot answer.
    """
    return Listener.load(model, precision, device, **generation)


# Questions about recordings

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
        """Prepare to ask.

        Args:
            listener: what answers.
            recordings: opened one after the other, as the model takes their windows.
            questions: asked of every window; None asks for a caption.
            batch_size: questions at a time.
            known: ids of answers that are not asked for again.
            read_windows: (path, sampling rate, window in seconds) → windows, raising AudioError.
        """
        self.listener, self.recordings, self.questions = listener, recordings, questions
        self.batch_size, self.known, self.read_windows = batch_size, known, read_windows
        self.expected = 0  # answers and failures, of the recordings that have been opened so far
        self.asked = 0
        self.given: set[str] = set()  # the ids of all that was to be answered, known ones too

    def __iter__(self) -> Iterator[tuple[int, Answer]]:
        """Give every answer that is not known, and every failure, once; raise ValueError for what cannot be asked."""
        for (number, answer), outcome in self.listener.answer(self._requests(), self.batch_size, refuses=True):
            if outcome.error is None:
                yield number, replace(answer, prediction=outcome.text, score=outcome.score)
            else:
                yield number, replace(answer, error=outcome.error)

    def _requests(self) -> Iterator[Request[tuple[int, Answer]]]:
        """Read the recordings; what cannot be heard becomes a request with the reason."""
        for recording in self.recordings:
            try:
                found = self._windows(recording)
                self.expected = self.asked + len(found) * len(self.questions)
                for window in found:
                    yield from self._questions_about(recording, window)
            except AudioError as error:
                yield self._number(self._draft(recording, None, None), None, error.reason)
            except Exception as error:
                yield self._number(self._draft(recording, None, None), None, f"cannot be read: {name_error(error)}")
            self.expected = self.asked  # which may be more or fewer than the file promised

    def _windows(self, recording: Recording) -> Collection[Window]:
        extractor = self.listener.processor.feature_extractor
        return self.read_windows(recording.path, extractor.sampling_rate, extractor.window_s)

    def _questions_about(self, recording: Recording, window: Window) -> Iterator[Request[tuple[int, Answer]]]:
        drafts = [self._draft(recording, window, question) for question in self.questions]
        self.given.update(draft.id for draft in drafts if draft.id in self.known)
        missing = [draft for draft in drafts if draft.id not in self.known]
        features = self._extract(window) if missing else ""
        if missing and isinstance(features, str):
            missing = [self._draft(recording, window, None)]
        for draft in missing:
            yield self._number(draft, window, features)

    def _extract(self, window: Window) -> torch.Tensor | str:
        """Return the window's features, or why there are none."""
        if window.silence is not None:
            return window.silence
        try:
            return self.listener.extract_features(window)
        except Exception as error:
            return name_error(error)

    def _number(
        self, draft: Answer, window: Window | None, features: torch.Tensor | str
    ) -> Request[tuple[int, Answer]]:
        number, self.asked = self.asked, self.asked + 1
        self.given.add(draft.id)
        return Request((number, draft), (draft.audio, window and window.start_s), draft.question, features)

    def _draft(self, recording: Recording, window: Window | None, question: str | None) -> Answer:
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
        )


def show_progress(asking: Asking) -> Iterator[tuple[int, Answer]]:
    """Pass the answers on and count them; the total grows with each recording that is opened."""
    with tqdm(desc="answering", unit=" answers", disable=None, leave=False, dynamic_ncols=True) as bar:
        for numbered in asking:
            bar.total = asking.expected
            bar.update()
            yield numbered
