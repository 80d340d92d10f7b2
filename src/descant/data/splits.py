"""Train, validation and test: a stable validation cut out of train by recording, and a check that nothing leaks."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from descant.data.annotations import Row, parse_clip_id

VALIDATION_SHARE = 0.05


class LeakError(ValueError):
    """The same sound stands in two splits."""


def recording_of(clip_id: str) -> str:
    """What must not be shared between splits: the recording of a MusicCaps clip, any other clip itself."""
    parsed = parse_clip_id(clip_id)
    return parsed[0] if parsed else clip_id


def is_validation(clip_id: str, seed: int = 0, share: float = VALIDATION_SHARE) -> bool:
    """Whether a training clip is held out. It depends on the recording's name alone, so added rows move no clip."""
    digest = hashlib.sha256(f"validation:{seed}:{recording_of(clip_id)}".encode()).hexdigest()
    return int(digest[:8], 16) / 16**8 < share


def cut_validation(rows: Iterable[Row], seed: int = 0, share: float = VALIDATION_SHARE) -> dict[str, list[Row]]:
    """Rows by split; those of train that are held out become `validation`."""
    splits: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        if row.split == "train" and is_validation(row.clip_id, seed, share):
            row = replace(row, split="validation")
        splits[row.split].append(row)
    return splits


def check_leaks(splits: Mapping[str, Iterable[Row]], feature_hash: Callable[[str], str] | None = None) -> None:
    """Raises LeakError where one recording, or one sound by its feature's hash, stands in two splits."""
    clips = {split: {row.clip_id for row in rows} for split, rows in splits.items()}
    _require_one_split("recording", clips, recording_of)
    if feature_hash is not None:
        _require_one_split("sound", clips, feature_hash)


def _require_one_split(what: str, clips: Mapping[str, set[str]], key_of: Callable[[str], str]) -> None:
    places: dict[str, dict[str, str]] = defaultdict(dict)
    for split, clip_ids in clips.items():
        for clip_id in sorted(clip_ids):
            places[key_of(clip_id)].setdefault(split, clip_id)
    leaks = [found for found in places.values() if len(found) > 1]
    if leaks:
        named = "; ".join(", ".join(f"{clip} in {split}" for split, clip in found.items()) for found in leaks[:5])
        raise LeakError(f"{len(leaks)} times the same {what} stands in two splits: {named}. Mend the annotations")
