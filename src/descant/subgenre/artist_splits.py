"""Splits of a collection that share no artist and no sound, each with its share of every label.

The same sound is found by fingerprints, without comparing each recording with each.
"""

import random
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from descant.data.audio import AudioError, stream_audio
from descant.program import count_cores
from descant.subgenre.labels import Track, TrackCorpus

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
_GUEST = re.compile(r"\s+[\[(]?(?:feat\.?|ft\.?|featuring)\s+|\s*;\s*", re.IGNORECASE)
# What may join artists or belong to one name ("Earth, Wind & Fire").
_BESIDE = re.compile(r"\s*[,&]\s*|\s+(?:and|with|x|vs\.?|/)\s+")
# Of fingerprints.
SAMPLING_RATE = 8_000
SECONDS = 30.0  # of the beginning
FRAME, HOP = 2_048, 256  # samples
BITS = 32
LOWEST_HZ, HIGHEST_HZ = 250.0, 3_000.0  # what every encoding keeps
# Share of the bits: an MP3 of 24 kbit/s has up to 0.16, another piece about 0.5, and 0.28 the two most alike of the
# demo corpus's clips (one band, one groove, other notes).
MAX_BIT_ERRORS = 0.22
MIN_OVERLAP = 60  # frames, about two seconds
# Locality-sensitive hashing: each 32-bit word is indexed by four rotated slices of 22 bits, so that a few wrong bits
# still match in one table. To save time, only slices whose hash is 0 mod 4 are indexed: equal slices alike.
PART_BITS = 22
ROTATIONS = (0, 8, 16, 24)
SAMPLED_PARTS = 4
MAX_SHARED = 24  # a slice that occurs more often (silence, a held tone) says nothing
MIN_VOTES = 2  # equal slices at one shift, before two fingerprints are compared bit by bit
_SHIFTS = 4_096  # more than the frames of a fingerprint


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
    """Group tracks that share an artist, artists who play together, or a sound: connected components.

    "A & B" belongs to A where A has tracks alone.
    """
    parents: dict[tuple[str, str], tuple[str, str]] = {}
    known = {name for track in tracks for name in artist_names(track.artist)}
    for track in tracks:
        names = artist_names(track.artist)
        for name in [*names, *(part for whole in names for part in _BESIDE.split(whole) if part in known)]:
            _join(parents, ("track", track.track_id), ("artist", name))
    for first, second in duplicates:
        _join(parents, ("track", first), ("track", second))
    groups = defaultdict(list)
    for track in tracks:
        groups[_root(parents, ("track", track.track_id))].append(track)
    return list(groups.values())


def artist_names(artist: str | None) -> list[str]:
    """Split "A feat. B" and "A; B" into names, in lower case without extra spaces, each letter written one way."""
    names = _GUEST.split(unicodedata.normalize("NFKC", artist or ""))
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


# The same sound


def find_duplicates(fingerprints: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """Return the pairs of ids whose fingerprints agree where they overlap, sorted.

    The work grows with the number of words times `MAX_SHARED`, not with the square of the number of tracks.
    """
    ids = sorted(fingerprints)
    prints = [fingerprints[track_id][: _SHIFTS // 2] for track_id in ids]
    pairs = {
        (first, second) for first, second, shift in _candidates(prints) if _agree(prints[first], prints[second], shift)
    }
    return [(ids[first], ids[second]) for first, second in sorted(pairs)]


def bit_error_rate(first: np.ndarray, second: np.ndarray, shift: int) -> tuple[float, int]:
    """Return (share of differing bits, frames of overlap) with frame `i` of the second at `i + shift` of the first."""
    start, end = max(shift, 0), min(len(first), len(second) + shift)
    if end <= start:
        return 1.0, 0
    differing = np.bitwise_count(first[start:end] ^ second[start - shift : end - shift])
    return float(differing.mean()) / 32, end - start


def _agree(first: np.ndarray, second: np.ndarray, shift: int) -> bool:
    needed = max(MIN_OVERLAP, min(len(first), len(second)) // 2)
    rates = (bit_error_rate(first, second, shift + step) for step in (0, -1, 1))
    return any(rate <= MAX_BIT_ERRORS and overlap >= needed for rate, overlap in rates)


def _candidates(prints: Sequence[np.ndarray]) -> Iterator[tuple[int, int, int]]:
    """Yield (first, second, shift) of every two fingerprints that share enough slices at one shift."""
    words = np.concatenate([*prints, np.zeros(0, np.uint32)])
    tracks = np.repeat(np.arange(len(prints)), [len(part) for part in prints])
    frames = np.concatenate([*(np.arange(len(part)) for part in prints), np.zeros(0, np.int64)])
    votes = np.concatenate([_votes(words, tracks, frames, rotation, len(prints)) for rotation in ROTATIONS])
    keys, counts = np.unique(votes, return_counts=True)
    for key in keys[counts >= MIN_VOTES].tolist():
        pair, shift = divmod(key, _SHIFTS)
        yield *divmod(pair, len(prints)), shift - _SHIFTS // 2


def _votes(words: np.ndarray, tracks: np.ndarray, frames: np.ndarray, rotation: int, count: int) -> np.ndarray:
    """Return a number for each two equal slices in different tracks; it encodes both tracks and their shift."""
    parts = ((words << np.uint32(rotation)) | (words >> np.uint32((32 - rotation) % 32))) & np.uint32(2**PART_BITS - 1)
    kept = np.flatnonzero((_scramble(parts) % SAMPLED_PARTS == 0) & (words != 0) & (words != 0xFFFFFFFF))
    kept = kept[np.argsort(parts[kept], kind="stable")]  # stable: within a run of equal slices the tracks rise
    kept = kept[_run_lengths(parts[kept]) <= MAX_SHARED]
    parts, tracks, frames = parts[kept], tracks[kept], frames[kept]
    found, first = [np.zeros(0, np.int64)], np.arange(len(kept))
    for step in range(1, MAX_SHARED):
        first = first[: np.searchsorted(first, len(kept) - step)]
        first = first[parts[first] == parts[first + step]]  # what a step does not reach, the next does not either
        pairs = first[tracks[first] != tracks[first + step]]
        shifts = frames[pairs] - frames[pairs + step] + _SHIFTS // 2
        found.append((tracks[pairs] * count + tracks[pairs + step]) * _SHIFTS + shifts)
    return np.concatenate(found)


def _run_lengths(values: np.ndarray) -> np.ndarray:
    """Return, for each value of a sorted array, how often it occurs."""
    edges = np.flatnonzero(np.diff(values, prepend=values[:1] + 1, append=values[-1:] + 1))
    sizes = np.diff(edges)
    return np.repeat(sizes, sizes)


def _scramble(parts: np.ndarray) -> np.ndarray:
    """Hash slices evenly (multiplicative hashing after Knuth)."""
    return (parts * np.uint32(2_654_435_761)) >> np.uint32(16)


def fingerprint_sounds(paths: Mapping[str, Path]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Fingerprint files on as many threads as cores: track id → fingerprint, and a sentence for each that fails."""
    with ThreadPoolExecutor(count_cores()) as pool:
        found = dict(zip(paths, pool.map(_try_fingerprint, paths.values()), strict=True))
    prints = {track_id: words for track_id, words in found.items() if not isinstance(words, str)}
    return prints, [f"{track_id}: {reason}" for track_id, reason in found.items() if isinstance(reason, str)]


def fingerprint_sound(path: Path) -> np.ndarray:
    """Fingerprint a file's first 30 seconds, (frames,) uint32; raises AudioError."""
    needed, blocks = round(SECONDS * SAMPLING_RATE), []
    for block in stream_audio(path, SAMPLING_RATE):
        blocks.append(block)
        if sum(map(len, blocks)) >= needed:  # an hour after that is not decoded
            break
    return fingerprint_waveform(np.concatenate(blocks)[:needed])


def fingerprint_waveform(waveform: np.ndarray) -> np.ndarray:
    """Fingerprint a mono waveform (samples,) at 8 kHz, (frames,) uint32; no frames for one shorter than two."""
    if len(waveform) < FRAME + HOP:
        return np.zeros(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float32), FRAME)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME).astype(np.float32), axis=1)) ** 2
    bands = power @ _band_filters()  # (frames, BITS + 1)
    slope = np.diff(np.log(bands + 1e-9), axis=1)
    bits = np.diff(slope, axis=0) > 0  # (frames - 1, BITS)
    return np.packbits(bits, axis=1, bitorder="little").view("<u4")[:, 0].astype(np.uint32)


@lru_cache(maxsize=1)
def _band_filters() -> np.ndarray:
    """Build 33 bands of the spectrum, equally wide in pitch: (FRAME // 2 + 1, BITS + 1)."""
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, BITS + 2) * FRAME / SAMPLING_RATE
    bins = np.arange(FRAME // 2 + 1)[:, None]
    return ((bins >= edges[:-1]) & (bins < np.maximum(edges[1:], edges[:-1] + 1))).astype(np.float32)


def _try_fingerprint(path: Path) -> np.ndarray | str:
    try:
        return fingerprint_sound(path)
    except AudioError as error:
        return f"{path.name} {error.reason}; it is compared with no other sound"
