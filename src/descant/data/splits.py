"""Train, validation and test share no recording and no sound: how a split is cut, and what is a leak.

Within a dataset `check_leaks` looks at its splits; between a model and the split that it is tested on, `find_leaks`
looks at the clips that the model's records name.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from descant.data.annotations import Row, parse_clip_id

VALIDATION_SHARE = 0.05


class LeakError(ValueError):
    """The same sound stands in two splits, or a model was trained on what it is to be tested on."""


@dataclass(frozen=True)
class ClipHashes:
    """The sha256 of a clip's features and of its sound file; None where it is not known.

    The first knows the clip in another file format, the second on a machine that rounds features otherwise. That of
    the file is followed by `:<start>-<end>` where the clip was cut out of it.
    """

    features: str | None = None
    sound: str | None = None

    @classmethod
    def parse(cls, text: str) -> "ClipHashes":
        """Read what `str` gives: both hashes with a space between, the first alone, or nothing."""
        features, _, sound = text.strip().partition(" ")
        return cls(features or None, sound or None)

    def __str__(self) -> str:
        return " ".join(filter(None, (self.features, self.sound)))

    def contents(self) -> set[str]:
        """Return the hashes of the features and of the whole file, wherever the clip lies in it."""
        return {one.split(":")[0] for one in (self.features, self.sound) if one}


def recording_of(clip_id: str) -> str:
    """Return what must not be shared between splits: the recording of a MusicCaps clip, any other clip itself."""
    parsed = parse_clip_id(clip_id)
    return parsed[0] if parsed else clip_id


def recording_of_row(row: Row, folder: str | Path = os.curdir) -> str:
    """Return the recording of a row's clip: its own file where it names one, by its path from `folder` without suffix.
    """
    return recording_of(row.clip_id) if row.audio is None else os.path.splitext(os.path.relpath(row.audio, folder))[0]


def is_validation(clip_id: str, seed: int = 0, share: float = VALIDATION_SHARE) -> bool:
    """Return whether a clip (or recording) is held out: its name alone decides, so that added rows move no clip."""
    name = f"validation:{seed}:{recording_of(clip_id)}"
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return int(digest[:8], 16) / 16**8 < share


def cut_validation(
    rows: Iterable[Row], seed: int = 0, share: float = VALIDATION_SHARE, folder: str | Path = os.curdir
) -> dict[str, list[Row]]:
    """Return rows by split; those of train whose recording is held out become `validation`.

    Own files count by their path from `folder`, so a table may move together with them. A row without a split is one
    of train.
    """
    splits: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
    for row in rows:
        split = row.split or "train"
        if split == "train" and is_validation(recording_of_row(row, folder), seed, share):
            split = "validation"
        splits[split].append(replace(row, split=split))
    return splits


def check_leaks(splits: Mapping[str, Sequence[Row]], feature_hash: Callable[[str], str] | None = None) -> None:
    """Raise LeakError where one recording, or one sound by its feature's hash, stands in two splits."""
    _require_one_split("recording", splits, recording_of_row)
    if feature_hash is not None:
        _require_one_split("sound", splits, lambda row: feature_hash(row.clip_id))


def _require_one_split(what: str, splits: Mapping[str, Sequence[Row]], key_of: Callable[[Row], str]) -> None:
    clips: dict[str, dict[str, str]] = defaultdict(dict)  # key → split → the first clip there
    for split, rows in splits.items():
        for row in sorted(rows, key=lambda row: row.clip_id):
            clips[key_of(row)].setdefault(split, row.clip_id)
    leaks = [by_split for by_split in clips.values() if len(by_split) > 1]
    if leaks:
        named = "; ".join(", ".join(f"{clip} in {split}" for split, clip in leak.items()) for leak in leaks[:5])
        raise LeakError(f"{len(leaks)} times the same {what} stands in two splits: {named}. Mend the annotations")


def find_leaks(trained: Mapping[str, ClipHashes], tested: Mapping[str, ClipHashes]) -> list[str]:
    """Return the tested clips that a model was trained on, sorted; both arguments map clip ids to their hashes.

    A clip leaks when its id, its recording (another window of the same YouTube video) or its sound under another name,
    or another window of that, was trained on.
    """
    recordings = set(map(recording_of, trained))
    contents = {one for hashes in trained.values() for one in hashes.contents()}
    return sorted(
        clip for clip, hashes in tested.items()
        if recording_of(clip) in recordings or not contents.isdisjoint(hashes.contents())
    )  # fmt: skip


def refuse_leaks(leaks: Sequence[str], model: str, split: str) -> None:
    """Raise LeakError where there are any."""
    if leaks:
        raise LeakError(
            f"{model} was trained on {len(leaks)} clips of the {split} split, {leaks[0]} among them: its scores there "
            "would measure memory. Choose another split, or pass --allow_leak to see them all the same"
        )
