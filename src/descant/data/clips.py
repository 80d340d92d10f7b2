"""Clips and their sound: which clips a source names, where each one's sound lies, and its waveform.

A clip's sound comes out of a recording, a cut clip, a `.npy` waveform or a column of a Hub dataset, and is read when
it is needed.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from descant.data.annotations import OWN_WINDOW_S, Annotations, Problem, Row, parse_clip_id, read_annotations
from descant.data.audio import AudioError, require_sound, stream_audio
from descant.data.sound_file import require_finite
from descant.data.sources import list_sound_files
from descant.data.splits import recording_of
from descant.data.tables import TABLE_SUFFIXES, fetch_dataset
from descant.files import sha256_of

FIRST_SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3", ".m4a", ".webm")  # of files of one name, in this order
LATE_END_S = 0.5  # a recording may end a little before the annotated end of its last clip, a cut clip after its own
LEAST_OF_CLIP = 0.5  # of its annotated length, that a file must have to be taken for the clip itself
LEAST_OF_CUT = 0.1  # that a recording must hold of a clip that it is cut to
KEY_COLUMNS = ("clip_id", "ytid", "fname", "youtube_id", "id")  # of a Hub dataset, the first that it has


class ClipAudio(Protocol):
    """A clip's sound, not yet read."""

    @property
    def name(self) -> str:
        """What a message calls it."""

    def load(self, sampling_rate: int, window_s: float) -> tuple[np.ndarray, str]:
        """Return at most `window_s` seconds of mono float32 (samples,) and `sha256()`; raise AudioError."""

    def sha256(self) -> str:
        """Return the hash of what the sound is read from, undecoded; raise OSError where that is not at hand."""


@dataclass(frozen=True)
class ClipFile:
    """A sound file: a recording, which is cut to `start_s` and `end_s`, or the clip itself.

    `is_clip` says that the file is the clip itself, however long it is. Else a file that is about as long as the clip
    is taken for it where it ends before `start_s`, and with `may_be_clip` (a file named by the recording alone, as cut
    clips of MusicCaps often are) also where it ends within the clip.
    """

    path: str
    start_s: float = 0.0
    end_s: float = 10.0
    is_clip: bool = False
    may_be_clip: bool = False

    @property
    def name(self) -> str:
        """The file's path."""
        return self.path

    def load(self, sampling_rate: int, window_s: float) -> tuple[np.ndarray, str]:
        """See `ClipAudio`; what comes after the clip is not decoded."""
        waveform = _cut(self, _read(self, sampling_rate), sampling_rate)[: round(window_s * sampling_rate)]
        require_sound(self.path, waveform, sampling_rate)
        return waveform, self.sha256()

    def sha256(self) -> str:
        """Return the file's hash, followed by `:<start>-<end>` where the clip is cut out of it."""
        digest, span = _file_sha256(self.path), (self.start_s, self.end_s)
        from_start = self.is_clip or span == (0.0, OWN_WINDOW_S)
        return digest if from_start else f"{digest}:{self.start_s:g}-{self.end_s:g}"


@dataclass(frozen=True)
class ClipWaveform:
    """A mono float32 waveform that is in memory already, at the extractor's rate."""

    samples: np.ndarray
    name: str = "array"

    def load(self, sampling_rate: int, window_s: float) -> tuple[np.ndarray, str]:
        """See `ClipAudio`."""
        waveform = self._contiguous()
        if waveform.ndim != 1:
            raise AudioError(self.name, f"is no mono waveform (shape {waveform.shape})")
        require_finite(self.name, waveform[None], sampling_rate)
        require_sound(self.name, waveform, sampling_rate)
        return waveform[: round(window_s * sampling_rate)], self.sha256()

    def sha256(self) -> str:
        """Return the hash of the samples as float32."""
        return hashlib.sha256(self._contiguous().tobytes()).hexdigest()

    def _contiguous(self) -> np.ndarray:
        return np.ascontiguousarray(self.samples, dtype=np.float32)


@dataclass(frozen=True)
class ClipColumn:
    """One cell of a `datasets` audio column that was loaded with `Audio(decode=False)`."""

    dataset: Any
    index: int
    column: str
    start_s: float = 0.0
    end_s: float = 10.0

    @property
    def name(self) -> str:
        """The cell, such as `audio[17]`."""
        return f"{self.column}[{self.index}]"

    def load(self, sampling_rate: int, window_s: float) -> tuple[np.ndarray, str]:
        """See `ClipAudio`."""
        with self._as_file() as clip:
            try:
                return clip.load(sampling_rate, window_s)
            except AudioError as error:
                raise AudioError(self.name, error.reason) from None

    def sha256(self) -> str:
        """Return the hash of the cell's sound file, as `ClipFile.sha256` does."""
        with self._as_file() as clip:
            return clip.sha256()

    @contextmanager
    def _as_file(self) -> Iterator[ClipFile]:
        cell = self.dataset[self.index][self.column]
        if not cell["bytes"]:
            yield self._in_file(cell["path"])
            return
        with tempfile.NamedTemporaryFile() as file:  # the reader goes by the content
            file.write(cell["bytes"])
            file.flush()
            yield self._in_file(file.name)

    def _in_file(self, path: str) -> ClipFile:
        return ClipFile(path, self.start_s, self.end_s, may_be_clip=True)


def find_clip_files(rows: Iterable[Row], folder: str | Path) -> dict[str, ClipFile]:
    """Return the rows' clips that a folder holds, by file name: `<clip_id>` or `<ytid>` plus a sound suffix or `.npy`.

    The folder is listed; a path is never built from an id. Raises ValueError where there is no such folder.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"{folder}: no such folder of audio files")
    files = _by_stem(Path(folder))
    clips = {}
    for row in rows:
        clip = parse_clip_id(row.clip_id)
        if row.clip_id in files:
            clips[row.clip_id] = ClipFile(files[row.clip_id], row.start_s, row.end_s, is_clip=True)
        elif clip and clip[0] in files:
            path = files[clip[0]]
            is_clip = path.endswith(".npy")
            clips[row.clip_id] = ClipFile(path, row.start_s, row.end_s, is_clip, may_be_clip=True)
    return clips


def find_own_files(rows: Iterable[Row]) -> dict[str, ClipFile]:
    """Return the clips of rows that name their own file."""
    return {row.clip_id: ClipFile(row.audio, row.start_s, row.end_s) for row in rows if row.audio}


def _by_stem(folder: Path) -> dict[str, str]:
    """Map file stems to paths; of several files of one stem the suffix that comes first counts."""
    listed = list_sound_files(folder, also=(".npy",))
    listed.warn()
    order = {suffix: rank for rank, suffix in enumerate(FIRST_SUFFIXES)}
    last = len(order), len(order) + 1
    ranks = {path: order.get(path.suffix.lower(), last[path.suffix.lower() == ".npy"]) for path in listed.files}
    paths = sorted(listed.files, key=lambda path: (ranks[path], str(path)), reverse=True)
    return {path.stem: str(path) for path in paths}


def _read(clip: ClipFile, sampling_rate: int) -> np.ndarray:
    """Read the file as far as the clip needs it: an hour after the clip is not decoded."""
    needed = round((clip.end_s - clip.start_s if clip.is_clip else clip.end_s) * sampling_rate)
    blocks, samples = [], 0
    for block in stream_audio(clip.path, sampling_rate):
        blocks.append(block)
        samples += len(block)
        if samples >= needed:
            break
    return np.concatenate(blocks)


def _cut(clip: ClipFile, waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
    first, last = round(clip.start_s * sampling_rate), round(clip.end_s * sampling_rate)
    if _is_clip_itself(clip, len(waveform) / sampling_rate):
        return waveform[: last - first]
    if first and len(waveform) - first < LEAST_OF_CUT * (last - first):
        span = f"{clip.start_s:g} to {clip.end_s:g} s"
        reason = f"is {len(waveform) / sampling_rate:.4g} s long and does not hold {span}; if it is that clip, "
        raise AudioError(clip.path, reason + "name it by its clip id (in a table, leave out start_s and end_s)")
    return waveform[first:last]


def _is_clip_itself(clip: ClipFile, length_s: float) -> bool:
    clip_s = clip.end_s - clip.start_s
    alike = LEAST_OF_CLIP * clip_s <= length_s <= clip_s + LATE_END_S
    return clip.is_clip or (alike and length_s <= (clip.end_s - LATE_END_S if clip.may_be_clip else clip.start_s))


def _file_sha256(path: str) -> str:
    state = os.stat(path)
    return _hash_content(path, state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)  # a recording is read once, however many clips are cut out of it
def _hash_content(path: str, *state: int) -> str:
    return sha256_of(path)


def find_hub_clips(rows: Iterable[Row], dataset: str) -> dict[str, ClipColumn]:
    """Return the rows' clips that a dataset holds, known by `<clip_id>` or `<ytid>` in one of `KEY_COLUMNS`.

    Raises:
        ValueError: no such dataset, or one without an audio column or without a column of ids.
    """
    from datasets import Audio, load_dataset

    from descant.hub_client import patiently

    cells: dict[str, tuple[Any, int, str]] = {}
    fetch_dataset(dataset)
    for part in patiently(partial(load_dataset, dataset), dataset).values():
        column = next((name for name, kind in part.features.items() if isinstance(kind, Audio)), None)
        key = next((name for name in KEY_COLUMNS if name in part.features), None)
        if column is None or key is None:
            names = ", ".join(part.features)
            raise ValueError(f"{dataset}: needs an audio column and one of {', '.join(KEY_COLUMNS)}; has {names}")
        part = part.cast_column(column, Audio(decode=False))
        cells |= {name: (part, index, column) for index, name in enumerate(part[key])}
    return {
        row.clip_id: ClipColumn(*cells[name], start_s=row.start_s, end_s=row.end_s)
        for row in rows
        for name in (row.clip_id, recording_of(row.clip_id))
        if name in cells
    }


def read_clip_list(source: str | Path) -> Annotations:
    """Read the rows of a table (see `read_annotations`), or of the demo corpus (`demo`).

    A folder of sound files gives one row a file, with an empty answer.

    Raises:
        ValueError: it is none of these, or cannot be read at all.
    """
    path = Path(source)
    if str(source) == "demo":
        return _read_demo()
    if path.is_dir():
        return _read_folder(path)
    if path.suffix.lower() not in TABLE_SUFFIXES:
        known = ", ".join(TABLE_SUFFIXES)
        raise ValueError(f"{source}: is neither `demo`, a folder of sound files nor one of {known}")
    return read_annotations(path)


def gather_clips(
    rows: Iterable[Row], audio_dirs: Sequence[str | Path] = (), hub_audio: Sequence[str] = ()
) -> dict[str, ClipAudio]:
    """Map clip ids to sound: a row's own file comes first, then the folders and the Hub datasets in their order."""
    rows = list(rows)
    sources: list[Mapping[str, ClipAudio]] = [find_own_files(rows)]
    sources += [find_clip_files(rows, folder) for folder in audio_dirs]
    sources += [find_hub_clips(rows, dataset) for dataset in hub_audio]
    return {clip_id: sound for source in reversed(sources) for clip_id, sound in source.items()}


def _read_demo() -> Annotations:
    from descant.data.demo import demo_dir, load_demo

    rows = [row for part in load_demo().values() for row in part]
    files = find_clip_files(rows, demo_dir() / "audio")
    clips = {row.clip_id: row for row in rows}
    return Annotations([replace(row, audio=files[clip_id].path) for clip_id, row in clips.items()])


def _read_folder(folder: Path) -> Annotations:
    annotations = Annotations()
    files: dict[str, Path] = {}
    listed = list_sound_files(folder, also=(".npy",))
    listed.warn()
    for path in listed.files:
        if files.setdefault(path.stem, path) is not path:
            reason = f"has the name of {files[path.stem]}; a table with a clip_id column tells them apart"
            annotations.problems.append(Problem(str(path), None, path.stem, reason))
            continue
        annotations.rows.append(Row(path.stem, None, "", None, "folder", 0.0, 10.0, None, str(path)))
    return annotations
