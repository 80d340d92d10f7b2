"""Which instruments of a rendering can be heard: what is played, and what regressions on other clips hear too.

A full mix holds instruments that no ear would name. Lists of instruments that are learnt from the plan alone teach a
model to name what is likely in place of what it hears.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from box_corpus.facts import Known

FOLDS, RIDGE, LEAST_CLIPS = 5, 0.1, 20
PRECISION = 0.9  # of what the regressions name, over all renderings


def find_audible(clips: Sequence[Known], states: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """Return the instruments that can be heard of each rendering whose instruments are known, by its id.

    Ridge regressions from the ears' states to each instrument are fitted on the training clips, in folds: what is
    heard of a clip never comes from a regression that knew it. An instrument is audible where it plays and its
    regression exceeds one threshold, from which on as many of all that the regressions name are right as `PRECISION`.
    """
    known = [one for one in clips if one.instruments and one.clip_id in states]
    counts = Counter(name for one in known for name in set(one.instruments))
    names = sorted(name for name, count in counts.items() if count >= LEAST_CLIPS)
    if not names:
        return {}
    played = np.array([[name in one.instruments for name in names] for one in known])
    training = np.array([one.split == "train" for one in known])
    heard = hear_other_clips(np.stack([states[one.clip_id] for one in known]).astype(np.float64), played, training,
                             [source_of(one.clip_id) for one in known])  # fmt: skip
    threshold = find_threshold(heard[training].ravel(), played[training].ravel())
    audible = zip(known, played & (heard >= threshold), strict=True)
    return {one.clip_id: [names[index] for index in np.flatnonzero(row)] for one, row in audible}


def source_of(clip_id: str) -> str:
    """Return the clip that a singer was put over, or the clip itself."""
    return clip_id.removeprefix("sung-")


def hear_other_clips(
    states: np.ndarray, played: np.ndarray, training: np.ndarray, sources: Sequence[str]
) -> np.ndarray:
    """Return regressions' values (clips, instruments), each clip's from training clips of other sources.

    states: (clips, width). played: (clips, instruments), true or false. training: (clips,), true for training clips.
    """
    mean, spread = states[training].mean(axis=0), states[training].std(axis=0) + 1e-5
    standard = np.clip((states - mean) / spread, -6, 6)
    numbers = {source: number for number, source in enumerate(sorted(set(sources)))}
    folds = np.array([numbers[source] % FOLDS for source in sources])
    heard = np.zeros(played.shape)
    for fold in range(FOLDS):
        fitted, asked = training & (folds != fold), folds == fold
        inputs, common = standard[fitted], played[fitted].mean(axis=0)
        gram = inputs.T @ inputs + RIDGE * len(inputs) * np.eye(inputs.shape[1])
        weights = np.linalg.solve(gram, inputs.T @ (played[fitted] - common))
        heard[asked] = standard[asked] @ weights + common
    return heard


def find_threshold(values: np.ndarray, right: np.ndarray) -> float:
    """Return the least value from which on the share of right ones is `PRECISION`; infinity where there is none."""
    order = np.argsort(-values)
    shares = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(shares >= PRECISION)
    return float(values[order][enough[-1]]) if len(enough) else float("inf")
