"""The tune of a clip: a seeded walk over chord and scale tones in a two-bar rhythm."""

import random
from collections.abc import Sequence
from typing import Protocol

from demo_corpus.chords import Chord
from demo_corpus.midi import TICKS_PER_BEAT, Event, note

# Onsets within a bar, in beats (4/4, 3/4) or eighths (6/8); each note lasts to the next.
RHYTHMS = {
    "4/4": ((0, 1, 2, 3.5), (0, 1.5, 2, 3), (0, 0.5, 1, 2, 2.5, 3), (0, 2, 3), (0, 1, 1.5, 2, 3, 3.5)),
    "3/4": ((0, 1, 2), (0, 2), (0, 1.5, 2), (0, 1, 1.5, 2), (0, 0.5, 1, 2)),
    "6/8": ((0, 2, 3, 5), (0, 3, 5), (0, 1, 2, 3), (0, 2, 3), (0, 3, 4, 5)),
}
LEAD_CHANNEL = 0
SWUNG_HALF = 2 / 3
SOUNDING = 0.92  # share of a note's length that sounds


class Bar(Protocol):
    """What a tune needs to know of a groove."""

    @property
    def metre(self) -> str: ...

    @property
    def beats(self) -> int: ...

    @property
    def swing(self) -> bool: ...


def compose(
    chords: list[Chord],
    scale: frozenset[int],
    groove: Bar,
    pitch_range: tuple[int, int],
    rng: random.Random,
    rhythms: Sequence[Sequence[float]] = (),
    sounding: float = SOUNDING,
) -> list[Event]:
    """Note events of the tune, one chord a bar: chord tones on every other note, scale tones between.

    `rhythms` are the pool from which the two bars' onsets are drawn, `sounding` the share of a note that is held.
    """
    rhythms = rng.sample(rhythms or RHYTHMS[groove.metre], 2)
    units = {"4/4": 4, "3/4": 3, "6/8": 6}[groove.metre]
    events: list[Event] = []
    key = sum(pitch_range) // 2
    for bar, chord in enumerate(chords):
        onsets = [_swing(onset, groove.swing) for onset in rhythms[bar % 2]]
        for index, (onset, end) in enumerate(zip(onsets, [*onsets[1:], units], strict=True)):
            tones = chord.pitch_classes if index % 2 == 0 else scale
            key = _step(key, tones, pitch_range, rng)
            start = round((bar + onset / units) * bar_ticks(groove))
            length = round((end - onset) / units * bar_ticks(groove) * sounding)
            events += note(start, length, LEAD_CHANNEL, key, rng.randint(92, 112))
    return events


def bar_ticks(groove: Bar) -> int:
    return groove.beats * TICKS_PER_BEAT


def _swing(onset: float, swing: bool) -> float:
    return int(onset) + SWUNG_HALF if swing and onset % 1 else onset


def _step(key: int, tones: frozenset[int], pitch_range: tuple[int, int], rng: random.Random) -> int:
    """The next key: near the last one, seldom the same, drawn back to the middle of the range."""
    low, high = pitch_range
    choices = [choice for choice in range(low, high + 1) if choice % 12 in tones]
    middle = (low + high) / 2
    weights = [2.0 ** -(abs(choice - key) / 2 + abs(choice - middle) / 8) * (0.2 if choice == key else 1)
               for choice in choices]
    return rng.choices(choices, weights)[0]
