"""What a model folder records of its training: datasets and clips, also those of the model it began from."""

import gzip
import json
from collections.abc import Iterable, Mapping
from os.path import exists
from pathlib import Path
from typing import Any

from descant.data.features import FeatureStore
from descant.data.splits import ClipHashes
from descant.files import write_whole
from descant.hub_client import NetworkError, find_file
from descant.publish.facts import CLIPS_FILE, DATA_FILE, TrainedOn, read_clips, read_list
from descant.publish.licence import HUB_ID, describe_part, public_name


def write_records(
    folder: Path, datasets: list[dict[str, Any]], clips: Mapping[str, ClipHashes], init_from: str | None
) -> None:
    """Write `training_data.json` (id, revision, split, licence, clips) and `training_clips.txt.gz`.

    Args:
        clips: clip id → its hashes, as `hash_clips` gives them.
        init_from: folder or Hub id whose own records are carried on.
    """
    earlier_data, earlier_clips = inherit_records(init_from) if init_from else ([], {})
    known = {json.dumps(one, sort_keys=True): one for one in [*earlier_data, *datasets]}
    write_whole(folder / DATA_FILE, (json.dumps(list(known.values()), indent=2) + "\n").encode())
    lines = "".join(f"{clip_id}\t{digest}\n" for clip_id, digest in sorted({**earlier_clips, **clips}.items()))
    write_whole(folder / CLIPS_FILE, gzip.compress(lines.encode("utf-8", "surrogateescape"), mtime=0))


def read_records(source: str) -> tuple[list[dict[str, Any]], dict[str, ClipHashes]]:
    """Return the datasets and clips (id → hashes) that a model was trained on; empty where it does not say.

    Raises:
        ValueError: a model on the Hub whose records are not on this machine and cannot be fetched, or (RecordError)
            records that are damaged or of another shape.
    """
    data, clips = (_find(source, name) for name in (DATA_FILE, CLIPS_FILE))
    hashes = read_clips(clips) if clips else {}
    datasets = read_list(data, TrainedOn) if data else []
    return datasets, {clip_id: ClipHashes.parse(text) for clip_id, text in hashes.items()}


def inherit_records(source: str) -> tuple[list[dict[str, Any]], dict[str, ClipHashes]]:
    """Return the records that a model hands on to what is trained from it or with it.

    One without any hands on itself, under the licence of its card: what went into it binds what comes of it, and is
    not known. Raises ValueError as `read_records` does.
    """
    datasets, clips = read_records(source)
    unrecorded = {
        "id": public_name(source), "kind": "model", "revision": "", "configs": [], "split": "",
        "licence": describe_part(source)["licence"] or "unknown", "clips": "not recorded",
    }  # fmt: skip
    return datasets or [unrecorded], clips


def hash_clips(features: FeatureStore, clips: Iterable[str]) -> dict[str, ClipHashes]:
    """Map each clip id to the hashes of its features and of its sound file."""
    return {clip: ClipHashes(features.feature_sha256(clip), features.sha256(clip)) for clip in clips}


def describe_data(
    corpus_id: str, revision: str, licence: str, clips: Iterable[str], configs: list[str]
) -> dict[str, Any]:
    """Return one entry of `training_data.json`; a dataset in a folder is named by its last part."""
    return {
        "id": public_name(corpus_id), "revision": revision, "configs": configs, "split": "train", "licence": licence,
        "clips": len(set(clips)),
    }  # fmt: skip


def _find(source: str, name: str) -> Path | None:
    if exists(source):
        path = Path(source) / name
        return path if path.is_file() else None
    if not HUB_ID.fullmatch(source):  # a path of another machine
        return None
    try:
        return find_file(source, name)
    except NetworkError as error:
        raise ValueError(
            f"{source}: what it was trained on cannot be read, for its {name} is not on this machine and the Hub does "
            f"not give it: give a folder that holds the whole repository, or mend this: {error}"
        ) from error
