"""What a captioner heard in tracks, kept on disk: a line of JSON a track, written as soon as it is there."""

import base64
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from descant.inference.listener import Listener
from descant.inference.model_folder import find_model, fingerprint_model
from descant.inference.track_hearing import HEARING_VERSION, Said, TrackHearing, TrackListener

log = logging.getLogger(__name__)


class HearingCache:
    """Hearings under `<root>/<captioner's fingerprint>/hearings.jsonl`; appended to, so that a kill loses none.

    A hearing counts while the sound file has the size that it had, the same questions are asked in the same way, and
    hearings are made as they were then.
    """

    def __init__(self, root: str | Path, captioner_hash: str, asked: Mapping[str, object]) -> None:
        """asked: the questions and the settings of generation, all that decides the answers beside the model."""
        self.path = Path(root) / captioner_hash / "hearings.jsonl"
        self.asked = json.loads(json.dumps({**asked, "version": HEARING_VERSION}))

    def read(self, tracks: Mapping[str, Path]) -> dict[str, TrackHearing]:
        """The hearings of some of the tracks (id → sound file) that are known."""
        found = {}
        for record in self._records():
            path = tracks.get(record["track_id"])
            if path is not None and record["asked"] == self.asked and record["audio_bytes"] == _size(path):
                found[record["track_id"]] = _from_record(record)
        return found

    def add(self, hearings: Iterable[TrackHearing], tracks: Mapping[str, Path]) -> Iterator[TrackHearing]:
        """Writes each hearing down before it is passed on; errors are passed on only, for a file may be mended."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            for hearing in hearings:
                if hearing.error is None:
                    heard = {"audio_bytes": _size(tracks[hearing.track_id]), "asked": self.asked}
                    line = json.dumps(_to_record(hearing) | heard, ensure_ascii=False)
                    # The newline before it parts it from a line that a kill has torn.
                    file.write(b"\n" + line.encode("utf-8", "surrogateescape") + b"\n")
                    file.flush()
                yield hearing
            os.fsync(file.fileno())

    def _records(self) -> Iterator[dict]:
        for line in self.path.read_bytes().split(b"\n") if self.path.exists() else []:
            try:
                record = json.loads(line.decode("utf-8", "surrogateescape"))
            except ValueError:  # a kill has torn it; its track is heard again
                continue
            yield record


def hear_tracks(
    tracks: Mapping[str, Path], captioner: str, questions: Sequence[str | None], root: str | Path,
    batch_size: int = 64, **generation: object,
) -> dict[str, TrackHearing]:  # fmt: skip
    """What a captioner hears in tracks (id → sound file), from the cache under `root` as far as it is there.

    Every track has its hearing; one that cannot be read has its `error`, which is logged.

    Raises:
        ModelFolderError: there is no such captioner, or it cannot answer.
    """
    folder = find_model(captioner)
    cache = HearingCache(root, fingerprint_model(folder), {"questions": list(questions), "generation": generation})
    found = cache.read(tracks)
    missing = [(track_id, path) for track_id, path in tracks.items() if track_id not in found]
    if missing:
        listener = TrackListener(Listener.load(captioner, **generation), questions, batch_size)
        heard = tqdm(listener.hear(missing), total=len(missing), desc="listening", unit="track", disable=None)
        for hearing in cache.add(heard, tracks):
            found[hearing.track_id] = hearing
            if hearing.error is not None:
                log.warning("not heard: %s", hearing.error)
    return {track_id: found[track_id] for track_id in tracks}


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _to_record(hearing: TrackHearing) -> dict[str, object]:
    embeds = base64.b64encode(hearing.audio_embeds.astype("<f4").tobytes()).decode()
    said = [asdict(one) for one in hearing.said]
    return {"track_id": hearing.track_id, "said": said, "audio_embeds": embeds}


def _from_record(record: dict) -> TrackHearing:
    embeds = np.frombuffer(base64.b64decode(record["audio_embeds"]), dtype="<f4")
    return TrackHearing(record["track_id"], tuple(Said(**one) for one in record["said"]), embeds)
