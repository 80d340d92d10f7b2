"""Features of many clips, computed over processes into a feature store: resumable, every bad clip recorded."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from descant.data.annotations import Problem, log_problems
from descant.data.audio import AudioError
from descant.data.clips import ClipAudio, ClipFile, ClipWaveform
from descant.data.corpus import Corpus, SplitRows
from descant.data.features import FeatureStore, import_features
from descant.data.tables import reason_of
from descant.files import JsonLines
from descant.program import BrokeOff, count_cores, keep_freed_memory

log = logging.getLogger(__name__)
CHUNK_CLIPS = 16
SKIPPED_FILE = "skipped.jsonl"
# Importing an extractor costs each process seconds: below this it is quicker not to share the work.
CLIPS_WORTH_A_PROCESS = 200

Source = str | Path | np.ndarray | ClipAudio
Work = list[tuple[str, ClipAudio]]
Done = tuple[int, int, list[Problem]]  # clips taken, features written, problems


class Extractor(Protocol):
    """What computes a feature: a model's front end, or its frozen encoder behind one. It can be pickled."""

    sampling_rate: int  # Hz
    window_s: float

    def extract(self, waveform: np.ndarray) -> Any:
        """Return the feature, of the store's shape, of a mono float32 waveform of at most `window_s`."""


class SavedExtractor(Extractor, Protocol):
    """An extractor whose settings name the store."""

    def to_dict(self) -> dict[str, Any]:
        """Return the settings, with `feature_shape`."""


@dataclass(frozen=True)
class Extraction:
    """How a run ended: features written, clips that had one already, and the clips that could not be read.

    The three add up to the clips that were given.
    """

    written: int
    present: int
    problems: list[Problem]


def extract_features(
    clips: Mapping[str, Source],
    extractor: Extractor,
    store: FeatureStore,
    processes: int | None = None,
    recheck: bool = False,
    progress: bool | None = None,
) -> Extraction:
    """Write the feature of each clip that the store does not hold yet.

    Args:
        clips: clip id → sound file, mono float32 waveform at the extractor's rate, or another `ClipAudio`. Of a sound
            that is longer than the extractor's window the first window counts.
        extractor: what computes a feature.
        store: made with the extractor's settings; a second run, or one after a kill, does what is missing.
        processes: by default as many as the cores and the number of clips justify.
        recheck: compute anew where the sound is no longer that of the stored feature; the feature of a file that is
            gone stays, and a clip whose file can no longer be read loses its feature.
        progress: show a bar; by default where stderr is a terminal.

    Raises:
        OSError: the store cannot be written, such as on a full disk.
        BrokeOff: a worker process was killed.

    Clips that cannot be read are skipped, returned (the caller names them), and recorded in the store's
    `skipped.jsonl`.
    """
    store.refresh()
    work = _list_work(clips, store, recheck, progress)
    processes = processes or _default_processes(len(work))
    written, problems = 0, list[Problem]()
    with tqdm(total=len(work), unit="clip", desc="features", disable=_hidden(progress) if work else True) as bar:
        for done, chunk_written, chunk_problems in _run(work, extractor, store, processes):
            written += chunk_written
            problems += chunk_problems
            bar.update(done)
    store.close()
    _record_skipped(store, clips, problems)
    return Extraction(written, len(clips) - written - len(problems), problems)


def _list_work(
    clips: Mapping[str, Source], store: FeatureStore, recheck: bool, progress: bool | None
) -> list[tuple[str, ClipAudio]]:
    """Return the clips whose features are missing or, with `recheck`, of another sound, each with its sound."""
    sounds = {clip_id: _as_clip_audio(source) for clip_id, source in clips.items()}
    stale = _find_stale(sounds, store, progress) if recheck else set()
    return [(clip_id, sound) for clip_id, sound in sounds.items() if clip_id in stale or clip_id not in store]


def _as_clip_audio(source: Source) -> ClipAudio:
    if isinstance(source, str | Path):
        return ClipFile(str(source), is_clip=True)
    return ClipWaveform(source) if isinstance(source, np.ndarray) else source


def _hidden(progress: bool | None) -> bool | None:
    return None if progress is None else not progress


def _find_stale(sounds: Mapping[str, ClipAudio], store: FeatureStore, progress: bool | None) -> set[str]:
    """Return the clips whose stored feature is that of another sound than the one at hand."""
    stored = [clip_id for clip_id in sounds if clip_id in store]
    with ThreadPoolExecutor(count_cores()) as pool:
        compared = pool.map(lambda clip_id: _is_stale(sounds[clip_id], store.sha256(clip_id)), stored)
        stale = tqdm(
            compared, total=len(stored), unit="clip", desc="comparing sound", delay=2, disable=_hidden(progress)
        )
        return {clip_id for clip_id, changed in zip(stored, stale, strict=True) if changed}


def _is_stale(sound: ClipAudio, stored_sha256: str) -> bool:
    try:
        return sound.sha256() != stored_sha256
    except OSError:  # not at hand
        return False


def _default_processes(clips: int) -> int:
    return max(1, min(count_cores(), clips // CLIPS_WORTH_A_PROCESS))


def _run(work: Work, extractor: Extractor, store: FeatureStore, processes: int) -> Iterator[Done]:
    chunks = [work[first : first + CHUNK_CLIPS] for first in range(0, len(work), CHUNK_CLIPS)]
    pool = _open_pool(processes, extractor, store) if processes > 1 else None
    if pool is None:
        yield from (_extract_chunk(chunk, extractor, store) for chunk in chunks)
        return
    with pool:
        try:
            futures = [pool.submit(_extract_in_worker, chunk) for chunk in chunks]
            yield from (future.result() for future in as_completed(futures))
        except KeyboardInterrupt:
            stop_fork_server()
            raise
        except BrokenProcessPool as error:
            raise BrokeOff("a process that computes features was killed, as where memory is short; "
                           "run the same command again, with --processes 1") from error  # fmt: skip
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _open_pool(processes: int, extractor: Extractor, store: FeatureStore) -> ProcessPoolExecutor | None:
    """Return the worker processes; None, with a log line, where no shared memory is to be had for their queues."""
    context = start_fork_server(type(extractor).__module__, __name__)
    try:
        return ProcessPoolExecutor(processes, context, _start_worker, (extractor, store))
    except OSError as error:
        log.warning("features are computed in one process (--processes 1): /dev/shm cannot be used (%s)", error)
        return None


def start_fork_server(*modules: str) -> ForkServerContext:
    """Start the fork server, which imports modules for all processes, and return the context that makes these.

    A fork of a process that has run torch may hang; the server has not. An interruption ends it and its processes
    silently. Without effect on a server that has been started before. Raises OSError where none can be started.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["descant.data.silent_end", *modules])
    resource_tracker.ensure_running()  # it would let interruptions through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which the server has from its first moment on
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def stop_fork_server() -> None:
    """End the fork server at once: an interrupted program would wait for the seconds of its imports."""
    server: int | None = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]  # it is private
    if server is not None:
        with suppress(ProcessLookupError):
            os.kill(server, signal.SIGTERM)


_worker: list[tuple[Extractor, FeatureStore]] = []  # of this process, where it is one of a pool


def _start_worker(extractor: Extractor, store: FeatureStore) -> None:
    if "torch" in sys.modules:  # the extractor's module has imported it by now, if it needs it
        sys.modules["torch"].set_num_threads(1)
        keep_freed_memory()
    _worker[:] = [(extractor, store)]
    threading.Thread(target=die_with_parent, daemon=True).start()


def die_with_parent() -> None:
    """End this process with the one that it works for, for whose work it would wait for ever; meant for a thread."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _extract_in_worker(chunk: Work) -> Done:
    return _extract_chunk(chunk, *_worker[0])


def _extract_chunk(chunk: Work, extractor: Extractor, store: FeatureStore) -> Done:
    written, problems = 0, []
    for clip_id, source in chunk:
        try:
            feature = _extract(clip_id, source, extractor, store)
        except Exception as error:  # whatever one clip does, the others are read
            reason = error.reason if isinstance(error, AudioError) else reason_of(error)
            problems.append(Problem(source.name, None, clip_id, reason))
            if clip_id in store:  # the feature of another sound than this one
                store.discard(clip_id)
            continue
        if feature is not None:
            store.write_record(clip_id, *feature)  # a full disk is no fault of the clip
            written += 1
    return len(chunk), written, problems


def _extract(
    clip_id: str, source: ClipAudio, extractor: Extractor, store: FeatureStore
) -> tuple[bytes, str] | None:  # fmt: skip
    """Return the record to store and the hash of its sound; None where the store has the feature of that sound."""
    waveform, digest = source.load(extractor.sampling_rate, extractor.window_s)
    if clip_id in store and store.sha256(clip_id) == digest:
        return None
    return store.encode(np.asarray(extractor.extract(waveform))), digest


def read_skipped(store: FeatureStore) -> dict[str, str]:
    """Map each clip that no run could read so far to the reason."""
    return {record["clip_id"]: record["reason"] for record in JsonLines(store.folder / SKIPPED_FILE).read()}


def _record_skipped(store: FeatureStore, clips: Iterable[str], problems: list[Problem]) -> None:
    done = set(clips)
    skipped = {clip_id: reason for clip_id, reason in read_skipped(store).items() if clip_id not in done}
    skipped |= {str(problem.clip_id): f"{Path(problem.file).name}: {problem.reason}" for problem in problems}
    if skipped or (store.folder / SKIPPED_FILE).exists():
        records = ({"clip_id": clip_id, "reason": skipped[clip_id]} for clip_id in sorted(skipped))
        JsonLines(store.folder / SKIPPED_FILE).write(records)


def prepare_features(corpus: Corpus, extractor: SavedExtractor, root: str) -> FeatureStore:
    """Return the store under `root` with the corpus's features in it.

    Those of clips without sound are fetched, if any is missing and they were published; those that are missing, or are
    of another sound under the same clip id, are computed. Clips that fail are named in the log.
    """
    store = FeatureStore(root, extractor.to_dict())
    missing = (clip for clip in _clips(corpus.configs) if clip not in store and clip not in corpus.audio)
    if corpus.published and any(missing):
        fetch_features(corpus, store)
        store.refresh()
    log_problems(extract_features(corpus.audio, extractor, store, recheck=True, progress=True).problems)
    store.refresh()
    return store


def fetch_features(corpus: Corpus, store: FeatureStore) -> None:
    """Fill the store from a dataset that was published with its features; why it cannot be is named in the log."""
    try:
        import_features(corpus.id, store.root, store.settings)
    except ValueError as error:
        log.warning("no features were fetched: %s", error)


def keep_heard(configs: dict[str, SplitRows], store: FeatureStore) -> dict[str, SplitRows]:
    """Return the rows whose clip has features; how many are left out is logged.

    Raises:
        ValueError: no training row is left.
    """
    usable = {
        config: {split: [row for row in rows if row.clip_id in store] for split, rows in splits.items()}
        for config, splits in configs.items()
    }
    missing = _clips(configs) - _clips(usable)
    if missing:
        log.warning("left out, without features: %d of the clips, %s first", len(missing), min(missing))
    if not any(splits.get("train") for splits in usable.values()):
        raise ValueError(
            f"no clip of the training split has features in {store.root}: pass --audio_dir with the clips' audio, or "
            "--features with the store that `descant features` wrote"
        )
    return usable


def _clips(configs: dict[str, SplitRows]) -> set[str]:
    rows = (row for splits in configs.values() for part in splits.values() for row in part)
    return {row.clip_id for row in rows}
