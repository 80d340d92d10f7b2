"""Which other clip each clip hears in the shuffled-audio control."""

from collections.abc import Iterable

import numpy as np


def derangement(clip_ids: Iterable[str], seed: int) -> dict[str, str]:
    """Maps every clip to another one, each used once and none kept (Sattolo's algorithm, 1986: one random cycle)."""
    clips = list(dict.fromkeys(clip_ids))
    if len(clips) < 2:
        raise ValueError(f"a derangement needs two clips or more, got {clips}: shuffle a larger split")
    rng, heard = np.random.default_rng(seed), clips.copy()
    for last in range(len(clips) - 1, 0, -1):
        other = rng.integers(last)
        heard[last], heard[other] = heard[other], heard[last]
    return dict(zip(clips, heard, strict=True))
