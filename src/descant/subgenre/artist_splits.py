"""Splits of a collection that share no artist and no sound, each with its share of every label."""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from descant.subgenre.labels import Track, TrackCorpus
from descant.subgenre.same_sound import find_duplicates, fingerprint_sounds

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
_GUEST = re.compile(r"\s+[\[(]?(?:feat\.?|ft\.?|featuring)\s+", re.IGNORECASE)


def split_by_artist(
    tracks: Sequence[Track],
    seed: int = 0,
    shares: Mapping[str, float] | None = None,
    duplicates: Iterable[tuple[str, str]] = (),
) -> list[Track]:
    """Return the same tracks, each with a split.

    Args:
        tracks: those that have a split already keep it, and draw in all that belong with them.
        shares: split → its share of the tracks and of each label; they are scaled to a sum of one.
        duplicates: pairs of ids of the same sound. Artists who share a sound or a song ("A feat. B") go together.

    Raises:
        ValueError: tracks that belong together were given different splits.
    """
    shares = _scaled(SHARES if shares is None else shares)
    groups = group_tracks(tracks, duplicates)
    given = {number: split for number, group in enumerate(groups) if (split := _given_split(group))}
    free = [group for number, group in enumerate(groups) if number not in given]
    split_of = {track.track_id: given[number] for number in given for track in groups[number]}
    for group, split in zip(free, _assign(free, shares, seed), strict=True):
        split_of |= {track.track_id: split for track in group}
    return [replace(track, split=split_of[track.track_id]) for track in tracks]


def group_tracks(tracks: Sequence[Track], duplicates: Iterable[tuple[str, str]] = ()) -> list[list[Track]]:
    """Group tracks that share an artist, artists who play together, or a sound: connected components."""
    parents: dict[tuple[str, str], tuple[str, str]] = {}
    for track in tracks:
        for name in artist_names(track.artist):
            _join(parents, ("track", track.track_id), ("artist", name))
    for first, second in duplicates:
        _join(parents, ("track", first), ("track", second))
    groups = defaultdict(list)
    for track in tracks:
        groups[_root(parents, ("track", track.track_id))].append(track)
    return list(groups.values())


def artist_names(artist: str | None) -> list[str]:
    """Split "A feat. B" into the names of artist and guests, in lower case without extra spaces."""
    names = _GUEST.split(artist or "")
    return [plain for name in names if (plain := " ".join(name.casefold().split()).strip("()[]"))]


def _root(parents: dict[tuple[str, str], tuple[str, str]], node: tuple[str, str]) -> tuple[str, str]:
    path = []
    while parents.setdefault(node, node) != node:
        path.append(node)
        node = parents[node]
    parents.update(dict.fromkeys(path, node))
    return node


def _join(parents: dict[tuple[str, str], tuple[str, str]], first: tuple[str, str], second: tuple[str, str]) -> None:
    parents[_root(parents, first)] = _root(parents, second)


def _given_split(group: Sequence[Track]) -> str | None:
    found = {track.split: track for track in group if track.split is not None}
    if len(found) > 1:
        named = ", ".join(f"{track.track_id} ({track.artist}) in {split}" for split, track in sorted(found.items()))
        raise ValueError(f"one artist or one sound stands in several splits: {named}; give them one split or none")
    return next(iter(found), None)


def _scaled(shares: Mapping[str, float]) -> dict[str, float]:
    total = sum(shares.values())
    if not shares or min(shares.values()) < 0 or total <= 0:
        raise ValueError(f"shares {dict(shares)} are not shares of splits: none may be negative, nor all zero")
    return {split: share / total for split, share in shares.items() if share > 0}


def _assign(groups: Sequence[Sequence[Track]], shares: Mapping[str, float], seed: int) -> list[str]:
    """Choose a split for each group greedily, large groups first, so that label counts stay near their shares.

    Near is by the growth of chi-square, the sum over splits and labels of (held - target)² / target.
    """
    if not groups:
        return []
    counts = _label_counts(groups)  # (groups, labels)
    totals = counts.sum(axis=0)
    targets = np.array(list(shares.values()))[:, None] * totals  # (splits, labels)
    held = np.zeros_like(targets)
    order = list(range(len(groups)))
    random.Random(seed).shuffle(order)
    order.sort(key=lambda number: -len(groups[number]))
    chosen = [0] * len(groups)
    for number in order:
        growth = counts[number] * (2 * (held - targets) + counts[number]) / targets  # (splits, labels)
        chosen[number] = int(growth.sum(axis=1).argmin())
        held[chosen[number]] += counts[number]
    names = list(shares)
    return [names[number] for number in chosen]


def _label_counts(groups: Sequence[Sequence[Track]]) -> np.ndarray:
    """Count each label in each group, (groups, labels + 1); the first column counts the tracks."""
    labels = sorted({label for group in groups for track in group for label in (track.genre, *track.subgenres)})
    columns = {label: number for number, label in enumerate(labels, start=1)}
    counts = np.zeros((len(groups), len(labels) + 1))
    for row, group in enumerate(groups):
        counts[row, 0] = len(group)
        for track in group:
            for label in {track.genre, *track.subgenres}:
                counts[row, columns[label]] += 1
    return counts


def split_corpus(
    corpus: TrackCorpus, seed: int = 0, shares: Mapping[str, float] | None = None, compare_audio: bool = True
) -> TrackCorpus:
    """Return the corpus with a split for each track (see `split_by_artist`).

    Args:
        compare_audio: read every sound file's beginning and keep those together that sound the same. Each pair is
            noted; a file that cannot be read is a problem, and is compared with no other.
    """
    prints: dict[str, np.ndarray] = {}
    problems: list[str] = []
    if compare_audio:
        prints, problems = fingerprint_sounds({track.track_id: track.audio for track in corpus.tracks if track.audio})
    pairs = find_duplicates(prints)
    tracks = split_by_artist(corpus.tracks, seed, shares, pairs)
    notes = [f"{first} and {second} are the same sound and stay in one split" for first, second in pairs]
    return replace(corpus, tracks=tracks, problems=corpus.problems + problems, notes=corpus.notes + notes)
