"""Train, validation and test: a stable validation cut out of train by recording, and a check that nothing leaks."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from descant.data.annotations import Row, parse_clip_id

VALIDATION_SHARE = 0.05


class LeakError(ValueError):
    """The same sound stands in two splits."""


def recording_of(clip_id: str) -> str:
    """What must not be shared between splits: the recording of a MusicCaps clip, any other clip itself."""
    parsed = parse_clip_id(clip_id)
    return parsed[0] if parsed else clip_id


def recording_of_row(row: Row, folder: str | Path = os.curdir) -> str:
    """The recording of a row's clip: its own file where it names one, by its path from `folder` without the suffix."""
    return recording_of(row.clip_id) if row.audio is None else os.path.splitext(os.path.relpath(row.audio, folder))[0]


def is_validation(clip_id: str, seed: int = 0, share: float = VALIDATION_SHARE) -> bool:
    """Whether a clip (or recording) is held out. It depends on the recording's name alone: added rows move no clip."""
    digest = hashlib.sha256(f"validation:{seed}:{recording_of(clip_id)}".encode()).hexdigest()
    return int(digest[:8], 16) / 16**8 < share


def cut_validation(
    rows: Iterable[Row], seed: int = 0, share: float = VALIDATION_SHARE, folder: str | Path = os.curdir
) -> dict[str, list[Row]]:
    """Rows by split; those of train that are held out become `validation`.

    The choice is by recording. Own files count by their path from `folder`, so a table may move together with them.
    """
    splits: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        if row.split == "train" and is_validation(recording_of_row(row, folder), seed, share):
            row = replace(row, split="validation")
        splits[row.split].append(row)
    return splits


def check_leaks(splits: Mapping[str, Sequence[Row]], feature_hash: Callable[[str], str] | None = None) -> None:
    """Raises LeakError where one recording, or one sound by its feature's hash, stands in two splits."""
    _require_one_split("recording", splits, recording_of_row)
    if feature_hash is not None:
        _require_one_split("sound", splits, lambda row: feature_hash(row.clip_id))


def _require_one_split(what: str, splits: Mapping[str, Sequence[Row]], key_of: Callable[[Row], str]) -> None:
    places: dict[str, dict[str, str]] = defaultdict(dict)
    for split, rows in splits.items():
        for row in sorted(rows, key=lambda row: row.clip_id):
            places[key_of(row)].setdefault(split, row.clip_id)
    leaks = [found for found in places.values() if len(found) > 1]
    if leaks:
        named = "; ".join(", ".join(f"{clip} in {split}" for split, clip in found.items()) for found in leaks[:5])
        raise LeakError(f"{len(leaks)} times the same {what} stands in two splits: {named}. Mend the annotations")
