"""The sounds of the demo corpus: General MIDI programs by instrument name, and the soundfonts."""

from pathlib import Path

SOUNDFONTS = {
    "FluidR3Mono_GM": Path("/usr/share/sounds/sf3/FluidR3Mono_GM.sf3"),
    "MuseScore_General_Lite": Path("/usr/share/sounds/sf3/MuseScore_General_Lite.sf3"),
}

# Melody instruments: program and the range (lowest, highest MIDI key) in which the tune moves.
LEADS = {
    "piano": (0, 64, 88),
    "electric guitar": (29, 57, 79),
    "violin": (40, 64, 88),
    "flute": (73, 72, 93),
    "trumpet": (56, 60, 81),
    "saxophone": (66, 53, 74),
    "vibraphone": (11, 65, 86),
    "synthesizer": (81, 62, 84),
}

ACCOMPANIMENT = {
    "piano": 0,
    "acoustic guitar": 25,
    "electric guitar": 27,
    "organ": 16,
    "accordion": 21,
    "strings": 48,
    "brass": 61,
    "synthesizer": 90,
}

DISTORTED_GUITAR = 30  # rock's accompaniment guitar; its clean one does not sound like rock

BASSES = {"upright bass": 32, "electric bass": 34, "synth bass": 38}
