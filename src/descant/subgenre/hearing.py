"""What a captioner gives of whole tracks: its answers about every window, and their mean audio embedding."""

import base64
import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from descant.answering.model_folder import find_model, fingerprint_model
from descant.answering.stream import AnswerStream, Request, map_ahead
from descant.data.audio import AudioError, Window, format_stamp, stream_windows
from descant.data.storage import Source, name_source
from descant.files import JsonLines, sha256_of
from descant.program import name_error

log = logging.getLogger(__name__)

Item = TypeVar("Item")

# Counted up when hearings are made in another way: 2 is the mean of windows by their length, 3 leaves silent windows
# out, and last ones under 0.5 s, 4 takes a frozen encoder's states for the embedding.
HEARING_VERSION = 4


@dataclass(frozen=True)
class CaptionerAnswer:
    """One answer about one window (seconds)."""

    start_s: float
    end_s: float
    question: str | None
    answer: str


@dataclass(frozen=True)
class TrackHearing:
    """A captioner's answers about a track and its embedding; or an `error`, with neither.

    audio_embeds: (width,), the mean over all windows of the captioner's vectors of them (`pool_audio`).
    window_embeds: (windows, width), what each window adds to that mean; None where the hearing comes from a cache.
    """

    track_id: str
    answers: tuple[CaptionerAnswer, ...] = ()
    audio_embeds: np.ndarray | None = None
    window_embeds: np.ndarray | None = None
    error: str | None = None

    def sentences(self, questions: Sequence[str | None]) -> list[str]:
        """Return the answers to some of the questions, window by window."""
        return [one.answer for one in self.answers if one.question in questions]


@dataclass
class _Unfinished:
    """A track of which some answers are missing yet."""

    track_id: str
    path: Source
    answers: dict[int, CaptionerAnswer] = field(default_factory=dict)  # by their number
    embeds: list[torch.Tensor] = field(default_factory=list)
    asked: int = 0
    read: bool = False  # all its windows have been read
    broken: bool = False  # its sound: what is still read of it does not count
    failed: bool = False  # and named: answers that still come do not count

    def finish(self) -> TrackHearing:
        answers = tuple(self.answers[number] for number in sorted(self.answers))
        embeds = torch.stack(self.embeds).numpy()
        return TrackHearing(self.track_id, answers, pool_windows(embeds, find_spans(answers)), embeds)

    def fail(self, reason: str) -> TrackHearing:
        self.failed = True
        return TrackHearing(self.track_id, error=f"{name_source(self.path)}: {reason}")


@dataclass(frozen=True)
class _Piece:
    """What comes next of a track: a window, or what failed."""

    track: _Unfinished
    window: Window | AudioError
    is_last: bool = True


# An answer's track and number, and the answer without its text; None: the track has failed.
Asked = tuple[_Unfinished, int, CaptionerAnswer | None]


class TrackListener:
    """Captions and embeds tracks with a captioner, any model that answers questions, in bounded memory."""

    def __init__(self, listener: AnswerStream, questions: Sequence[str | None], batch_size: int = 64) -> None:
        """Take a captioner and the questions that are asked about every window of 10 s; None asks for a caption."""
        self.listener, self.questions, self.batch_size = listener, tuple(questions), batch_size
        self.front_end = listener.features  # with a frozen encoder, which then hears each window once

    def hear(self, tracks: Iterable[tuple[str, Source]]) -> Iterator[TrackHearing]:
        """Yield each track's hearing as soon as it is complete; where anything of a track fails, with its error."""
        requests = self._requests(tracks)
        for (track, number, asked), outcome in self.listener.answer(requests, self.batch_size, refuses=True):
            if track.failed:
                continue
            if asked is None or outcome.error is not None:
                yield track.fail(outcome.error or "")
                continue
            track.answers[number] = replace(asked, answer=outcome.text)
            if track.read and len(track.answers) == track.asked:
                yield track.finish()

    def _requests(self, tracks: Iterable[tuple[str, Source]]) -> Iterator[Request[Asked]]:
        """Read the tracks as the model asks for more; what fails of a track ends it."""
        for piece, features in map_ahead(self._extract_piece, self._cut(tracks), self.listener.encoding_threads):
            track = piece.track
            if track.broken:
                continue
            try:
                yield from self._questions_about(piece, features)
            except AudioError as error:
                track.broken = True
                yield Request((track, track.asked, None), (track.track_id, None), None, error.reason)

    def _cut(self, tracks: Iterable[tuple[str, Source]]) -> Iterator[_Piece]:
        """Read each track up to its end, or to what fails."""
        extractor = self.listener.processor.feature_extractor
        opened = ((one, path, _open(path, extractor.sampling_rate, extractor.window_s)) for one, path in tracks)
        for track_id, path, windows in one_ahead(opened):
            track, silent = _Unfinished(track_id, path), True
            try:
                if isinstance(windows, AudioError):
                    raise windows
                for window, is_last in mark_last(window for window in windows if window.silence is None):
                    silent = False
                    yield _Piece(track, window, is_last)
                    if track.broken:
                        break
                if silent:
                    raise AudioError(name_source(path), "is silent in all its windows")
            except AudioError as error:
                yield _Piece(track, error)

    def _extract_piece(self, piece: _Piece) -> torch.Tensor | Exception:
        if isinstance(piece.window, AudioError):
            return piece.window
        try:
            return self._extract(piece.window)
        except Exception as error:
            return error

    def _questions_about(self, piece: _Piece, features: torch.Tensor | Exception) -> Iterator[Request[Asked]]:
        track, window = piece.track, piece.window
        if isinstance(window, AudioError):
            raise window
        try:
            if isinstance(features, Exception):
                raise features
            track.embeds.append(self._embed(features))
        except Exception as error:
            stamp = format_stamp(window.start_s, window.end_s)
            raise AudioError(name_source(track.path), f"{stamp}: {name_error(error)}") from error
        track.read = piece.is_last
        first, track.asked = track.asked, track.asked + len(self.questions)
        for number, question in enumerate(self.questions, start=first):
            asked = CaptionerAnswer(window.start_s, window.end_s, question, "")
            yield Request((track, number, asked), (track.track_id, window.start_s), question, features)

    def measure_width(self) -> int:
        """Return the width of the model's audio embeddings."""
        rate = self.listener.processor.feature_extractor.sampling_rate
        second = Window(0.0, 1.0, np.sin(np.arange(rate, dtype=np.float32)))
        return len(self._embed(self._extract(second)))

    def _extract(self, window: Window) -> torch.Tensor:
        return torch.from_numpy(self.front_end.extract(window.samples))

    @torch.no_grad()
    def _embed(self, features: torch.Tensor) -> torch.Tensor:
        """Return the model's vector of one window, (width,) on the CPU."""
        vector = self.listener.model.pool_audio(features[None].to(self.listener.model.device))[0].float().cpu()
        if not torch.isfinite(vector).all():
            raise ValueError("its audio embedding holds NaN or infinite numbers")
        return vector


def _open(path: Source, sampling_rate: int, window_s: float) -> Collection[Window] | AudioError:
    try:
        return stream_windows(path, sampling_rate, window_s)
    except AudioError as error:
        return error
    except Exception as error:
        return AudioError(name_source(path), f"cannot be read: {name_error(error)}")


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items, each made in a thread while the one before it is in use."""
    iterator = iter(items)

    def take() -> list[Item]:
        return list(islice(iterator, 1))

    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(take)
        while taken := coming.result():
            coming = thread.submit(take)
            yield taken[0]


def mark_last(items: Iterable[Item]) -> Iterator[tuple[Item, bool]]:
    """Yield each item with whether it is the last one: known when no other follows, not by a count."""
    held: list[Item] = []
    for item in items:
        if held:
            yield held.pop(), False
        held.append(item)
    if held:
        yield held.pop(), True


def find_spans(answers: Iterable[CaptionerAnswer]) -> tuple[tuple[float, float], ...]:
    """Return the windows that answers are about (start and end in seconds), each once, in their order."""
    return tuple(dict.fromkeys((one.start_s, one.end_s) for one in answers))


def pool_windows(embeds: np.ndarray, spans: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return the mean of windows (windows, width) weighted by their seconds: a last one of 10 ms counts for little."""
    seconds = np.array([end_s - start_s for start_s, end_s in spans])
    return np.average(embeds, axis=0, weights=seconds).astype(embeds.dtype)


class HearingCache:
    """Hearings under `<root>/<captioner's fingerprint>/hearings.jsonl`; appended to, so that a kill loses none.

    A cached hearing is reused only while the sound file's content, the questions, the settings of generation and
    HEARING_VERSION are unchanged.
    """

    def __init__(self, root: str | Path, fingerprint: str, asked: Mapping[str, Any]) -> None:
        """Open the cache of a captioner; asked: the questions and the settings of generation."""
        self.path = Path(root) / fingerprint / "hearings.jsonl"
        self.asked = json.loads(json.dumps({**asked, "version": HEARING_VERSION}))

    def read(self, tracks: Mapping[str, Path]) -> dict[str, TrackHearing]:
        """Return the cached hearings of some of the tracks (id → sound file)."""
        found: dict[str, TrackHearing] = {}
        digests: dict[str, str | None] = {}
        for record in JsonLines(self.path).read():  # of a torn line, the track is heard again
            track_id = str(record.get("track_id"))
            if track_id not in tracks or record.get("asked") != self.asked:
                continue
            if track_id not in digests:
                digests[track_id] = _sha256(tracks[track_id])
            if digests[track_id] is not None and record.get("audio_sha256") == digests[track_id]:
                found[track_id] = _from_record(record)
        return found

    def add(self, hearings: Iterable[TrackHearing], tracks: Mapping[str, Path]) -> Iterator[TrackHearing]:
        """Append each hearing before it is passed on; errors are only passed on, since a file may be mended."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for hearing in hearings:
            if hearing.audio_embeds is not None:
                key = {"audio_sha256": _sha256(tracks[hearing.track_id]), "asked": self.asked}
                JsonLines(self.path).append(_to_record(hearing, hearing.audio_embeds) | key)
            yield hearing


def hear_tracks(
    tracks: Mapping[str, Path], captioner: str, questions: Sequence[str | None], root: str | Path,
    batch_size: int = 64, **generation: Any,
) -> dict[str, TrackHearing]:  # fmt: skip
    """Return a captioner's hearings of tracks (id → sound file), from the cache under `root` as far as it has them.

    The hearing of a track that cannot be read is an `error`, which is logged.

    Raises:
        ModelFolderError: there is no such captioner, or it cannot answer.
    """
    folder = find_model(captioner)
    cache = HearingCache(root, fingerprint_model(folder), {"questions": list(questions), "generation": generation})
    found = cache.read(tracks)
    missing = [(track_id, path) for track_id, path in tracks.items() if track_id not in found]
    if missing:
        listener = TrackListener(AnswerStream.load(captioner, everything=True, **generation), questions, batch_size)
        heard = tqdm(listener.hear(missing), total=len(missing), desc="listening", unit="track", disable=None)
        for hearing in cache.add(heard, tracks):
            found[hearing.track_id] = hearing
            if hearing.error is not None:
                log.warning("not captioned: %s", hearing.error)
    return {track_id: found[track_id] for track_id in tracks}


def _sha256(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:  # not at hand
        return None


def _to_record(hearing: TrackHearing, audio_embeds: np.ndarray) -> dict[str, Any]:
    embeds = base64.b64encode(audio_embeds.astype("<f4").tobytes()).decode()
    answers = [asdict(one) for one in hearing.answers]
    return {"track_id": hearing.track_id, "said": answers, "audio_embeds": embeds}


def _from_record(record: Mapping[str, Any]) -> TrackHearing:
    embeds = np.frombuffer(base64.b64decode(record["audio_embeds"]), dtype="<f4")
    return TrackHearing(record["track_id"], tuple(CaptionerAnswer(**one) for one in record["said"]), embeds)
