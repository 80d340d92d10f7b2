"""What a captioner hears in whole tracks: its answers about every window, and its audio embedding of all of them."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from descant.data.audio import AudioError, Window, stream_windows
from descant.inference.listener import Listener, Pair
from descant.inference.model_folder import fingerprint_files

Item = TypeVar("Item")

# Counted up when a hearing comes to be made in another way: 2 is the mean of windows by their length.
HEARING_VERSION = 2
# What decides a captioner's answers and embeddings. Code and records beside them do not count.
HEARING_FILES = ("*.safetensors", "config.json", "generation_config.json", "processor_config.json", "tokenizer.json")


@dataclass(frozen=True)
class Said:
    """One answer about one window (seconds)."""

    start_s: float
    end_s: float
    question: str | None
    answer: str


@dataclass(frozen=True)
class TrackHearing:
    """All that was heard in a track, or why nothing was: `error`, with `said` empty and no embedding.

    audio_embeds: (width,), the mean of the captioner's audio embeddings over their positions and all windows.
    window_embeds: (windows, width), what each window adds to that mean; None where the hearing comes from a cache.
    """

    track_id: str
    said: tuple[Said, ...] = ()
    audio_embeds: np.ndarray | None = None
    window_embeds: np.ndarray | None = None
    error: str | None = None

    def sentences(self, questions: Sequence[str | None]) -> list[str]:
        """The answers to some of the questions, window by window."""
        return [one.answer for one in self.said if one.question in questions]


@dataclass
class _Unfinished:
    """A track whose answers are still coming."""

    track_id: str
    said: dict[int, Said] = field(default_factory=dict)  # by place in the stream of questions
    embeds: list[torch.Tensor] = field(default_factory=list)
    asked: int = 0
    read: bool = False  # all its windows have been read

    def finish(self) -> TrackHearing:
        said = tuple(self.said[place] for place in sorted(self.said))
        embeds = torch.stack(self.embeds).numpy()
        return TrackHearing(self.track_id, said, pool_windows(embeds, find_spans(said)), embeds)


class TrackListener:
    """Hears tracks with a captioner, any model that answers questions, in bounded memory."""

    def __init__(self, listener: Listener, questions: Sequence[str | None], batch_size: int = 64) -> None:
        """questions: asked of every window of 10 s; None asks for a caption."""
        self.listener, self.questions, self.batch_size = listener, tuple(questions), batch_size
        self._waiting: dict[int, tuple[_Unfinished, Said]] = {}  # place in the stream → the answer to be
        self._failed: list[TrackHearing] = []

    def hear(self, tracks: Iterable[tuple[str, Path]]) -> Iterator[TrackHearing]:
        """Yields each track's hearing as soon as it is there; one that cannot be read comes with its error."""
        listener = self.listener
        stream = listener.model.answer_many(self._pairs(tracks), batch_size=self.batch_size, **listener.settings)
        for place, token_ids, _ in stream:
            yield from self._pop_failed()
            track, said = self._waiting.pop(place)
            track.said[place] = Said(said.start_s, said.end_s, said.question, listener.decode(token_ids))
            if track.read and len(track.said) == track.asked:
                yield track.finish()
        yield from self._pop_failed()

    def _pop_failed(self) -> list[TrackHearing]:
        failed, self._failed = self._failed, []
        return failed

    def _pairs(self, tracks: Iterable[tuple[str, Path]]) -> Iterator[Pair]:
        """What the model takes, read as it asks for more."""
        place = 0
        extractor = self.listener.processor.feature_extractor
        opened = ((track_id, _open(path, extractor.sampling_rate, extractor.window_s)) for track_id, path in tracks)
        for track_id, windows in one_ahead(opened):
            if isinstance(windows, AudioError):
                self._failed.append(TrackHearing(track_id, error=str(windows)))
                continue
            track = _Unfinished(track_id)
            for number, window in enumerate(windows):
                features = self.listener.extract_features(window)
                track.embeds.append(self._embed(features))
                track.asked += len(self.questions)
                track.read = number == len(windows) - 1
                for question in self.questions:
                    self._waiting[place] = (track, Said(window.start_s, window.end_s, question, ""))
                    place += 1
                    yield (track_id, window.start_s), features, self.listener.prompt_ids(question)

    @torch.no_grad()
    def _embed(self, features: torch.Tensor) -> torch.Tensor:
        """The mean over positions of one window's audio embedding, (width,) on the CPU."""
        embeds = self.listener.model.get_audio_features(features[None].to(self.listener.model.device))
        return embeds[0].mean(dim=0).float().cpu()


def _open(path: Path, sampling_rate: int, window_s: float) -> Collection[Window] | AudioError:
    try:
        return stream_windows(path, sampling_rate, window_s)
    except AudioError as error:
        return error


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The items, each made in a thread while the one before it is in use."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, iterator, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, iterator, end)
            yield item


def find_spans(said: Iterable[Said]) -> tuple[tuple[float, float], ...]:
    """The windows that answers are about, each once, in their order."""
    return tuple(dict.fromkeys((one.start_s, one.end_s) for one in said))


def pool_windows(embeds: np.ndarray, spans: Sequence[tuple[float, float]]) -> np.ndarray:
    """The mean of windows (windows, width) by their length: a last one of 10 ms says little of a track."""
    seconds = np.array([end_s - start_s for start_s, end_s in spans])
    return np.average(embeds, axis=0, weights=seconds).astype(embeds.dtype)


def hash_captioner(folder: Path) -> str:
    """16 hex digits of a model folder's weights and settings: the same for the same captioner, wherever it lies."""
    return fingerprint_files(folder, HEARING_FILES)
