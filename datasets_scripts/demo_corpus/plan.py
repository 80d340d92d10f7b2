"""The plan of the demo corpus: the facts of every clip, drawn from seeds before a note sounds."""

import base64
import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from demo_corpus.chords import KEYS, PROGRESSIONS, mode_of
from demo_corpus.grooves import GENRES, GROOVES, Groove
from demo_corpus.sounds import SOUNDFONTS

SEED = 2026
TEMPI = {"slow": (60, 82), "medium": (98, 116), "fast": (138, 176)}
CLIPS_A_GROOVE = {"train": 15, "validation": 2, "test": 4}
CLIPS_A_HELD_OUT_GROOVE = 6
PROGRESSIONS_A_GROOVE = 3
INSTRUMENT_ORDER = ("piano", "acoustic guitar", "electric guitar", "organ", "accordion", "strings", "brass", "violin",
                    "flute", "trumpet", "saxophone", "vibraphone", "synthesizer", "bass", "drums")


@dataclass(frozen=True)
class ClipPlan:
    """All that is decided about one clip; the facts derive from it."""

    groove: Groove
    split: str
    number: int  # within groove and split
    chords: str
    key: str
    tempo_class: str
    tempo_bpm: int
    lead: str
    accompaniment: str
    bass: str
    drums: bool
    soundfont: str

    @property
    def seed(self) -> int:
        """Feeds everything about the clip that the plan does not fix: notes, start, wording."""
        return int.from_bytes(self._digest[:4], "big")

    @property
    def ytid(self) -> str:
        """Eleven characters, as YouTube's ids have; nothing on YouTube is meant."""
        return "d" + base64.b32encode(self._digest).decode().lower()[:10]

    @property
    def _digest(self) -> bytes:
        return hashlib.sha256(f"{SEED}/{self.groove.name}/{self.split}/{self.number}".encode()).digest()

    @property
    def clip_id(self) -> str:
        return f"[{self.ytid}]-[0-10]"

    @property
    def mode(self) -> str:
        return mode_of(self.chords)

    @property
    def instruments(self) -> tuple[str, ...]:
        played = {self.lead, self.accompaniment}
        played |= {"bass"} if self.bass != "no bass" else set()
        played |= {"drums"} if self.drums else set()
        return tuple(name for name in INSTRUMENT_ORDER if name in played)

    @property
    def mood(self) -> str:
        """Fast music is energetic; below that the mode decides, and slow minor is sad, slow major peaceful."""
        if self.tempo_class == "fast":
            return "energetic"
        by_mode = {"slow": ("peaceful", "sad"), "medium": ("cheerful", "mysterious")}
        return by_mode[self.tempo_class][self.mode == "minor"]


def plan_corpus() -> list[ClipPlan]:
    """Every clip of every split, in the order of the facts table."""
    plans = [plan for index, groove in enumerate(GROOVES) for plan in _plan_groove(groove, index)]
    order = ("train", "validation", "test", "test_grooves")
    return sorted(plans, key=lambda plan: order.index(plan.split))


def _plan_groove(groove: Groove, index: int) -> list[ClipPlan]:
    rng = random.Random(f"{SEED}/{groove.name}")
    counts = {"test_grooves": CLIPS_A_HELD_OUT_GROOVE} if groove.held_out else CLIPS_A_GROOVE
    progressions = _progressions(groove, index)
    free_keys = {progression: rng.sample(KEYS, len(KEYS)) for progression in progressions}
    plans: list[ClipPlan] = []
    for split, count in counts.items():
        # A key leaves the pool of its progression for good: no pair is in one key in two clips or two splits.
        chords = _cycle(progressions, count, rng)
        pairs = [(progression, free_keys[progression].pop()) for progression in chords]
        plans += _plan_split(groove, split, pairs, rng)
    return plans


def _plan_split(groove: Groove, split: str, pairs: list[tuple[str, str]], rng: random.Random) -> list[ClipPlan]:
    """Balanced draws: within a groove and split each choice occurs as often as its share says."""
    genre, count = GENRES[groove.genre], len(pairs)
    usual, rarer = groove.tempi
    tempi = _cycle((usual, rarer, usual, usual, rarer), count, rng)
    leads = _cycle(genre.leads, count, rng)
    basses = _cycle((genre.basses[0], "no bass", genre.basses[1], genre.basses[0], genre.basses[1]), count, rng)
    drums = _cycle((True, False), count, rng)
    fonts = _cycle(tuple(SOUNDFONTS), count, rng)
    return [
        ClipPlan(groove, split, number, *pairs[number], tempi[number], rng.randint(*TEMPI[tempi[number]]),
                 leads[number], _other_than(leads[number], genre.accompaniment, rng), basses[number], drums[number],
                 fonts[number])
        for number in range(count)
    ]


def _progressions(groove: Groove, index: int) -> list[str]:
    """Three progressions, as many of them minor as the groove says, rotating through the pool."""
    minor = [name for name in PROGRESSIONS if mode_of(name) == "minor"]
    major = [name for name in PROGRESSIONS if mode_of(name) == "major"]
    chosen = [minor[(index + step) % len(minor)] for step in range(groove.minor)]
    return chosen + [major[(index + step) % len(major)] for step in range(PROGRESSIONS_A_GROOVE - groove.minor)]


def _cycle(choices: Sequence, count: int, rng: random.Random) -> list:
    """`count` items going round the choices from a random start, shuffled."""
    start = rng.randrange(len(choices))
    items = [choices[(start + step) % len(choices)] for step in range(count)]
    rng.shuffle(items)
    return items


def _other_than(lead: str, accompaniment: tuple[str, str], rng: random.Random) -> str:
    return rng.choice([name for name in accompaniment if name != lead])
