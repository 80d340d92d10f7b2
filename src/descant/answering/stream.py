"""Recordings as they are asked about, and the stream through which a model answers all who ask, in bounded memory.

A recording is a sound and its name; from Python, sound may also be a file's bytes or a waveform. A question or a sound
that fails, in whatever way, becomes that one's named problem, and the others go on.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import numpy as np
import torch

from descant.answering.model_folder import ModelFolderError, find_model, load_model
from descant.data.audio import (
    AudioError,
    Window,
    pick_windows,
    read_some_windows,
    require_sound,
    resample,
    stream_windows,
    windows,
)
from descant.data.sound_file import mix_down, require_finite
from descant.data.storage import Source, is_remote, name_source
from descant.models.lp_music_caps.sure_claims import SureAnswers
from descant.program import name_error

if TYPE_CHECKING:
    from descant.models.contract import FrontEnd, QuestionAnsweringModel, QuestionProcessor

Label = TypeVar("Label")
Item = TypeVar("Item")
Made = TypeVar("Made")

Audio = Source | np.ndarray
ReadWindows = Callable[[Source, int, float], Collection[Window]]
MOST_FAILED = 64  # requests that wait for the model's next answer to be named


@dataclass(frozen=True)
class Recording:
    """A sound, as `open_sound` takes it, and the name under which its answers are kept."""

    path: Source
    audio: str

    @property
    def clip_id(self) -> str:
        """The name without folders and suffix."""
        if isinstance(self.path, bytes):
            return self.audio
        return Path(self.audio.partition("?")[0] if is_remote(self.path) else self.path).stem

    @classmethod
    def of(cls, source: Source) -> "Recording":
        """Return a sound under its own name."""
        return cls(source, name_source(source))


def as_recording(audio: Audio, sampling_rate: int | None, extractor: Any) -> tuple[Recording, ReadWindows]:
    """Return sound, as it was handed over, as a recording, with what reads its windows.

    Args:
        audio: a path, an address such as https://…, a file's bytes, or a waveform, as `Listener.ask` takes it.
        sampling_rate: of a waveform, in Hz.
        extractor: the model's feature extractor.
    """
    if not isinstance(audio, np.ndarray):
        return Recording.of(audio), stream_windows
    if sampling_rate is None or sampling_rate < 1:
        raise ValueError("a waveform needs sampling_rate=, in Hz")
    rate = extractor.sampling_rate
    cut = windows(_to_mono(audio, sampling_rate, rate), rate, extractor.window_s)
    return Recording(b"", "array"), lambda *_: cut


def as_track(read: ReadWindows, count: int | None) -> ReadWindows:
    """Return what reads at most `count` windows of a track, None: all, in place of what reads every window."""
    if read is stream_windows:
        return partial(read_some_windows, count=count)
    return lambda path, rate, window_s: pick_windows(list(read(path, rate, window_s)), count, rate, window_s)


def _to_mono(waveform: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Return a float waveform, with or without channels, as mono samples at another rate."""
    if waveform.ndim not in (1, 2) or not waveform.size or not np.issubdtype(waveform.dtype, np.floating):
        raise AudioError("array", f"is {waveform.dtype} of shape {waveform.shape}; give floats (samples,) in [-1, 1]")
    samples = waveform[:, None] if waveform.ndim == 1 else waveform
    samples = samples.T if samples.shape[0] < samples.shape[1] else samples  # (channels, samples), as torchaudio reads
    require_finite("array", np.ascontiguousarray(samples.T, np.float32), rate)
    mono = mix_down("array", np.ascontiguousarray(samples.T, np.float32))
    require_sound("array", mono, rate)
    return mono if rate == target_rate else resample(mono, rate, target_rate)


# Questions on their way through a model


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


@dataclass(frozen=True)
class EncodedWindow(Window):
    """A window with the features that a feature store would keep of it, for all that is asked about it.

    whole: it is no shorter than a window of the model; decisions repeat a short one, and encode it anew.
    """

    features: torch.Tensor
    whole: bool


class _Flight(Generic[Label]):
    """The requests on their way through one run of a model's `answer_many`."""

    def __init__(self, listener: "AnswerStream", requests: Iterator[Request[Label]]) -> None:
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
            yield request.label, self.listener.judge(request, token_ids, score)
        yield from self.pop_failed()
        while self.waiting:
            yield self.waiting.popitem()[1].label, Outcome(error="the model gave no answer")

    def pop_failed(self) -> list[tuple[Label, Outcome]]:
        """Give each request that did not reach the model once."""
        failed, self.failed = self.failed, []
        return failed


def _encode(window: Window, front_end: "FrontEnd") -> Window:
    if isinstance(window, EncodedWindow) or window.silence is not None:
        return window
    try:
        features = torch.as_tensor(front_end.extract(window.samples))
    except Exception:
        return window
    whole = len(window.samples) >= front_end.num_samples
    return EncodedWindow(window.start_s, window.end_s, window.samples, features, whole)


class AnswerStream:
    """A model, its processor and the settings with which it answers."""

    def __init__(
        self,
        model: "QuestionAnsweringModel",
        processor: "QuestionProcessor",
        name: str,
        *,
        everything: bool = False,
        **generation: Any,
    ) -> None:
        """Join a model with its processor.

        Args:
            model: any model that answers questions about music.
            processor: that of the model.
            name: what `Answer.model` says.
            everything: leave long answers as the model words them. By default they leave out what it is not sure of,
                where that was fitted (`decision.json`), and `generation` says so.
            generation: settings of `generate`; the model's own hold for the others. `seed` and `weights` are not
                passed to `generate`; they are recorded with each answer.
        """
        self.model, self.processor, self.name = model, processor, name
        self.settings = {key: value for key, value in generation.items() if key not in ("seed", "weights")}
        own = model.generation_config.to_diff_dict()
        own.pop("transformers_version", None)
        self.generation = {**own, **generation, "precision": str(model.dtype).removeprefix("torch.")}
        self.sure = None if everything else SureAnswers.of(model)
        self.generation |= {"claims": "sure"} if self.sure else {}
        self.prompt_ids = lru_cache(maxsize=1024)(processor.prompt_ids)

    @classmethod
    def load(
        cls, source: str | Path, precision: str = "fp32", device: torch.device | str | None = None, **generation: Any
    ) -> Self:
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

    def encode(self, windows: Collection[Window]) -> Collection[Window]:
        """Return windows that are encoded once, however often they are asked about; streamed ones stay as they are.

        Left as they are, too: silent ones, which nothing is asked about, and one that fails, as it does again where
        the failure is named.
        """
        if not isinstance(windows, list):
            return windows
        encode = partial(_encode, front_end=self.features)
        return [encoded for _, encoded in map_ahead(encode, windows, min(self.encoding_threads, len(windows)))]

    @property
    def encoding_threads(self) -> int:
        """In how many threads windows are encoded: on a CPU as many as torch has, since each uses one core."""
        model = self.model
        # Weights of another precision than an encoder's own are exchanged in it while it runs.
        return torch.get_num_threads() if model.device.type == "cpu" and model.dtype == torch.float32 else 1

    def extract_features(self, window: Window) -> torch.Tensor:
        """Return the features of a window's samples, as the model takes them."""
        if isinstance(window, EncodedWindow):
            return window.features
        if self.sure is not None:  # which reads the encoder's states again
            return torch.as_tensor(self.features.extract(window.samples))
        rate = self.processor.feature_extractor.sampling_rate
        return self.processor(audio=[window.samples], sampling_rate=rate, return_tensors="pt")["input_features"][0]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of an answer's tokens."""
        return self.processor.batch_decode([token_ids], skip_special_tokens=True)[0].strip()

    def judge(self, request: Request[Any], token_ids: Sequence[int], score: float) -> Outcome:
        """Return the text of an answer, without what is not sure, or why it cannot be used."""
        if not math.isfinite(score):
            return Outcome(error="the model's scores are no finite numbers: its weights, or this sound, are damaged")
        text = self.decode(token_ids)
        if self.sure is not None and not isinstance(request.features, str):
            text = self.sure.revise(text, request.question, request.features)
        return Outcome(text, score)

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


def in_order(numbered: Iterable[tuple[int, Item]]) -> Iterator[Item]:
    """Give items, numbered from 0 and in any order, in the order of their numbers; early ones are held back.

    Raises RuntimeError at the end where a number is missing.
    """
    early: dict[int, Item] = {}
    following = 0
    for number, item in numbered:
        early[number] = item
        while following in early:
            yield early.pop(following)
            following += 1
    if early:
        raise RuntimeError(f"item {following} never came, and {len(early)} wait for it")


def map_ahead(function: Callable[[Item], Made], items: Iterable[Item], threads: int) -> Iterator[tuple[Item, Made]]:
    """Yield each item with what `function` makes of it, in their order, made in threads while earlier ones are in use.

    Each thread has one of torch; with one in all, nothing is made ahead.
    """
    if threads <= 1:
        yield from ((item, function(item)) for item in items)
        return
    coming: deque[tuple[Item, Future[Made]]] = deque()
    before = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for item in items:
                coming.append((item, pool.submit(function, item)))
                if len(coming) > threads:
                    earliest, made = coming.popleft()
                    yield earliest, made.result()
            yield from ((item, made.result()) for item, made in coming)
        finally:
            torch.set_num_threads(before)  # in threads to come: theirs would be the last number that any was given
