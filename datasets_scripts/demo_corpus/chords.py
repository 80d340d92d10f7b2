"""Chord progressions in Roman numerals, spelled out in any key."""

from dataclasses import dataclass

KEYS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
DEGREES = {"I": 0, "II": 2, "bIII": 3, "III": 4, "IV": 5, "V": 7, "bVI": 8, "VI": 9, "bVII": 10}
TRIADS = {"": (0, 4, 7), "7": (0, 4, 7, 10), "m": (0, 3, 7), "m7": (0, 3, 7, 10)}
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}

# Eight bars each.
PROGRESSIONS = {
    "major-four-chords": "I V vi IV I V IV V",
    "major-turnaround": "I vi ii V7 I vi ii7 V7",
    "major-hymn": "I IV I V7 I IV V7 I",
    "major-blues": "I7 I7 IV7 IV7 I7 I7 V7 IV7",
    "major-lift": "I iii IV V7 vi IV V7 I",
    "major-flat-seven": "I bVII IV I I bVII IV V7",
    "minor-descent": "i bVII bVI V7 i bVII bVI V7",
    "minor-cadence": "i iv V7 i i iv V7 i",
    "minor-epic": "i bVI bIII bVII i bVI bVII i",
    "minor-blues": "i7 i7 iv7 iv7 i7 i7 V7 i7",
    "minor-lament": "i V7 bVI iv i V7 iv i",
    "minor-dorian": "i IV i IV i bVII IV i",
}


@dataclass(frozen=True)
class Chord:
    root: int  # pitch class, C = 0
    quality: str  # a key of TRIADS

    @property
    def name(self) -> str:
        """The chord as mma writes it, like `Ebm7`."""
        return KEYS[self.root] + self.quality

    @property
    def pitch_classes(self) -> frozenset[int]:
        return frozenset((self.root + step) % 12 for step in TRIADS[self.quality])


def mode_of(progression: str) -> str:
    return progression.split("-")[0]


def spell(progression: str, key: str) -> list[Chord]:
    """The eight chords, one a bar, of a named progression in a key."""
    return spell_numerals(PROGRESSIONS[progression], key)


def spell_numerals(numerals: str, key: str) -> list[Chord]:
    """Return the chords of Roman numerals like `I vi ii7 V7` in a key."""
    return [_chord(numeral, KEYS.index(key)) for numeral in numerals.split()]


def scale(key: str, mode: str) -> frozenset[int]:
    return frozenset((KEYS.index(key) + step) % 12 for step in SCALES[mode])


def _chord(numeral: str, tonic: int) -> Chord:
    degree = numeral.rstrip("7")
    minor = degree.lstrip("b").islower()
    flat = "b" if degree.startswith("b") else ""
    root = (tonic + DEGREES[flat + degree.removeprefix("b").upper()]) % 12
    return Chord(root, ("m" if minor else "") + ("7" if numeral.endswith("7") else ""))
