"""Chord progressions of eight bars, drawn from steps that are usual in major and minor."""

import random

# What follows what; a repeated numeral is likelier.
MAJOR = {
    "I": "IV V vi ii iii IV V7 I vi", "ii": "V V7 IV ii7 V7", "ii7": "V7 V V7", "iii": "vi IV vi", "IV": "V I ii V7 I",
    "V": "I vi IV I", "V7": "I vi I I", "vi": "IV ii V iii IV", "bVII": "IV I",
}  # fmt: skip
MINOR = {
    "i": "iv bVI bVII V7 bIII iv bVI i", "iv": "V7 i bVII bVI V7", "bVI": "bVII bIII iv V7", "bVII": "i bVI bIII i",
    "bIII": "bVII bVI iv", "V7": "i i bVI i", "IV": "i bVII",
}  # fmt: skip
BARS = 8


def draw_progression(rng: random.Random) -> tuple[str, str]:
    """Return a mode and eight numerals in the notation of `demo_corpus.chords`, from the tonic to a close."""
    mode = rng.choice(("major", "minor"))
    steps, tonic = (MAJOR, "I") if mode == "major" else (MINOR, "i")
    seventh = rng.random() < 0.15  # a blues colour: the tonic as a seventh chord
    numerals = [tonic]
    while len(numerals) < BARS - 1:
        numerals.append(rng.choice(steps[numerals[-1]].split()))
    numerals.append(rng.choice(("V7", tonic)))
    return mode, " ".join(numeral + "7" if seventh and numeral in (tonic, "IV", "iv") else numeral
                          for numeral in numerals)
