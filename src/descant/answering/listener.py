"""A loaded model that answers questions about recordings of any length: from Python (`ask`), and for files (`Asking`).

All windows and questions go through one stream (`AnswerStream`); nothing is answered where nothing can be heard.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from descant.answering.answers import Answer, TrackAnswer, answer_id, decide_file, pool_answers
from descant.answering.questions import TypedQuestions
from descant.answering.stream import (
    AnswerStream,
    Audio,
    Outcome,
    ReadWindows,
    Recording,
    Request,
    as_recording,
    as_track,
    in_order,
)
from descant.data.audio import AudioError, Window, stream_windows
from descant.data.storage import Source
from descant.models import box
from descant.program import name_error

log = logging.getLogger(__name__)


class Listener(AnswerStream):
    """A loaded model that answers about recordings: `ask`, `decide`, `describe`."""

    def ask(
        self, audio: Audio, question: str | None | Sequence[str | None] = None, *, windows: bool = False,
        hear: int | None = 12, sampling_rate: int | None = None,
    ) -> Answer | list[Answer]:  # fmt: skip
        """Answer questions about a recording of any length.

        Args:
            audio: a sound file's path, address (https://, hf://datasets/, s3://, gs://, `shard.tar::song.mp3`) or
                bytes, or a waveform (samples,), (samples, channels) or (channels, samples).
            question: a question, or a list of them; None asks for a caption.
            windows: return what the model writes about each window of 10 s, in place of one answer about the whole:
                decided where the question is of a trained type, else what most windows say, weighed by confidence.
            hear: without `windows`, how many of a file's windows are heard at most, spread evenly; None: all.
            sampling_rate: of a waveform, in Hz.

        Returns:
            A TrackAnswer, which says what it rests on; for several questions a list; with `windows` a list of Answers.

        Raises:
            AudioError: the sound cannot be read, or nothing can be heard in it.
            ValueError: a question that the model cannot be asked.
        """
        questions = [question] if question is None or isinstance(question, str) else list(question)
        if not questions:
            return []
        recording, read = as_recording(audio, sampling_rate, self.processor.feature_extractor)
        read, typed = (read, None) if windows else (as_track(read, hear), TypedQuestions(self, questions))
        asked = list(in_order(Asking(self, [recording], questions, read_windows=read, typed=typed)))
        good = [answer for answer in asked if answer.error is None]
        if not good:
            raise AudioError(recording.audio, asked[0].error or "")
        if windows:
            return asked
        pooled = {answer.question: answer for answer in pool_answers(good)}
        missing = [one for one in questions if one not in pooled]
        failed = next((answer for answer in asked if answer.question in missing), None)
        if failed is not None:
            raise ValueError(f"{recording.audio}: {failed.error}")
        merged = [pooled[one] for one in questions]
        return merged[0] if question is None or isinstance(question, str) else merged

    def answer_windows(
        self, audio: Source, windows: Collection[Window], questions: Sequence[str | None]
    ) -> list[Answer]:
        """Answer questions about windows of a recording that are at hand, in the order of windows and questions."""
        return list(in_order(Asking(self, [Recording.of(audio)], questions, read_windows=lambda *_: windows)))

    def decide(
        self, audio: Audio, questions: Mapping[str, Any], *, hear: int | None = 12, sampling_rate: int | None = None
    ) -> dict[str, Any]:
        """Answer System One's questions about sound as `ask` takes it; see `TrackDecider.decide`."""
        recording, read = as_recording(audio, sampling_rate, self.processor.feature_extractor)
        own = as_track(read, hear) if isinstance(audio, np.ndarray) else None
        return decide_file(self.model, self.processor, questions, recording.path, hear, own)

    def describe(self, audio: Source, hear: int | None = 12) -> dict[str, Any]:
        """Describe a track, a path, address or a file's bytes; see `descant.answering.description.Describer`."""
        from descant.answering.description import Describer

        return Describer(self, hear).describe(audio)


def load(
    model: str | Path = box.NAME, *, precision: str = "fp32", device: torch.device | str | None = None,
    **generation: Any,
) -> Listener:  # fmt: skip
    """Load a model that answers questions about music: `descant.load().ask("song.mp3", "What is the mood?")`.

    Args:
        model: a folder, or an id on the Hub; by default the model in the box, which comes with descant.
        precision: fp32, bf16 or int8; the lower ones are faster where the processor has them, and change answers.
        device: by default the GPU where there is one.
        generation: settings of `generate`, such as `num_beams=1`; and `everything=True`, with which long answers are
            as the model words them. By default they leave out what it is not sure of, where that was fitted.

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
        typed: TypedQuestions | None = None,
    ) -> None:
        """Prepare to ask.

        Args:
            listener: what answers.
            recordings: opened one after the other, as the model takes their windows.
            questions: asked of every window, but for the typed ones; None asks for a caption.
            batch_size: questions at a time.
            known: ids of answers that are not asked for again.
            read_windows: (sound, sampling rate, window in seconds) → windows, raising AudioError.
            typed: those of the questions that are decided about a recording's windows together, as a TrackAnswer.
        """
        self.listener, self.recordings, self.typed = listener, recordings, typed
        self.decided = [one for one in questions if typed and one in typed.readings]
        self.questions = [one for one in questions if one not in self.decided]
        self.batch_size, self.known, self.read_windows = batch_size, known, read_windows
        self.expected = 0  # answers and failures, of the recordings that have been opened so far
        self.asked = 0
        self.given: set[str] = set()  # the ids of all that was to be answered, known ones too

    def __iter__(self) -> Iterator[tuple[int, Answer]]:
        """Give every answer that is not known, and every failure, once; raise ValueError for what cannot be asked."""
        for (number, draft), outcome in self.listener.answer(self._requests(), self.batch_size, refuses=True):
            yield number, self.complete(draft, outcome)

    def complete(self, draft: Answer, outcome: Outcome) -> Answer:
        """Return an answer with what came of it; one that was decided before is whole."""
        if draft.prediction is not None:
            return draft
        if outcome.error is not None:
            return replace(draft, error=outcome.error)
        said = self.typed.revise(draft.question, outcome.text) if self.typed else outcome.text
        return replace(draft, prediction=said, score=outcome.score)

    def _requests(self) -> Iterator[Request[tuple[int, Answer]]]:
        """Read the recordings; what cannot be heard becomes a request with the reason."""
        for recording in self.recordings:
            try:
                found = self._windows(recording)
                self.expected = self.asked + len(self.decided) + len(found) * len(self.questions)
                yield from self._decide(recording, found)
                for window in found if self.questions else ():
                    yield from self._questions_about(recording, window)
            except AudioError as error:
                yield self._number(self._draft(recording, None, None), None, error.reason)
            except Exception as error:
                yield self._number(self._draft(recording, None, None), None, f"cannot be read: {name_error(error)}")
            self.expected = self.asked  # which may be more or fewer than the file promised

    def _windows(self, recording: Recording) -> Collection[Window]:
        extractor = self.listener.processor.feature_extractor
        found = self.read_windows(recording.path, extractor.sampling_rate, extractor.window_s)
        return self.listener.encode(found) if self.decided or self.listener.sure else found

    def _decide(self, recording: Recording, windows: Collection[Window]) -> Iterator[Request[tuple[int, Answer]]]:
        """Decide about a recording, before its windows are asked about; what fails is each question's reason."""
        if self.typed is None or not self.decided:
            return
        drafts, found, reason = [self._draft(recording, None, one) for one in self.decided], {}, ""
        try:
            found = self.typed.decide(list(windows))
        except Exception as error:
            reason = name_error(error)
        for draft in drafts:
            fields = vars(draft) | found.get(str(draft.question), {})
            yield self._number(draft if reason else TrackAnswer(**fields), None, reason)

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


def ask_together(askings: Sequence[Asking], batch_size: int = 32) -> list[list[Answer]]:
    """Answer several askings of one listener in shared batches, each in the order of its windows and questions.

    Their recordings need different names, since windows of one name and start share their features.
    """
    requests = (
        Request((number, request.label), request.key, request.question, request.features)
        for number, asking in enumerate(askings)
        for request in asking._requests()
    )
    answers: list[dict[int, Answer]] = [{} for _ in askings]
    for (number, (position, draft)), outcome in askings[0].listener.answer(requests, batch_size):
        answers[number][position] = askings[number].complete(draft, outcome)
    return [[found[position] for position in sorted(found)] for found in answers]


def show_progress(asking: Asking) -> Iterator[tuple[int, Answer]]:
    """Pass the answers on and count them; the total grows with each recording that is opened."""
    with tqdm(desc="answering", unit=" answers", disable=None, leave=False, dynamic_ncols=True) as bar:
        for numbered in asking:
            bar.total = asking.expected
            bar.update()
            yield numbered
