"""General MIDI's programs by the instruments' names, and the instruments that play melodies alone or in front."""

from dataclasses import dataclass

# (first program, last program): name. Programs that are missing are effects, which no fact could name.
PROGRAMS = {
    (0, 3): "piano", (4, 5): "electric piano", (6, 6): "harpsichord", (7, 7): "clavinet", (8, 8): "celesta",
    (9, 9): "glockenspiel", (10, 10): "music box", (11, 11): "vibraphone", (12, 12): "marimba", (13, 13): "xylophone",
    (14, 14): "tubular bells", (15, 15): "dulcimer", (16, 18): "organ", (19, 19): "church organ",
    (20, 20): "harmonium", (21, 21): "accordion", (22, 22): "harmonica", (23, 23): "accordion",
    (24, 25): "acoustic guitar", (26, 31): "electric guitar", (32, 32): "upright bass", (33, 37): "electric bass",
    (38, 39): "synth bass", (40, 40): "violin", (41, 41): "viola", (42, 42): "cello", (43, 43): "double bass",
    (44, 45): "strings", (46, 46): "harp", (48, 51): "strings", (52, 54): "choir", (56, 56): "trumpet",
    (57, 57): "trombone", (58, 58): "tuba", (59, 59): "trumpet", (60, 60): "french horn", (61, 63): "brass",
    (64, 67): "saxophone", (68, 68): "oboe", (69, 69): "english horn", (70, 70): "bassoon", (71, 71): "clarinet",
    (72, 72): "piccolo", (73, 73): "flute", (74, 74): "recorder", (75, 75): "pan flute", (77, 77): "shakuhachi",
    (78, 78): "whistle", (79, 79): "ocarina", (80, 95): "synthesizer", (104, 104): "sitar", (105, 105): "banjo",
    (106, 106): "shamisen", (107, 107): "koto", (108, 108): "kalimba", (109, 109): "bagpipes", (110, 110): "violin",
}  # fmt: skip
NAMES = {program: name for (first, last), name in PROGRAMS.items() for program in range(first, last + 1)}
BASS_PROGRAMS = range(32, 40)


@dataclass(frozen=True)
class Instrument:
    """A melody instrument: its programs, and the range of MIDI keys in which its tunes move."""

    family: str
    programs: tuple[int, ...]
    low: int
    high: int
    chordal: bool = False  # can accompany itself


MELODIC = {
    "piano": Instrument("piano", (0, 1, 2, 3), 60, 88, True),
    "electric piano": Instrument("piano", (4, 5), 55, 84, True),
    "harpsichord": Instrument("piano", (6,), 55, 84, True),
    "clavinet": Instrument("piano", (7,), 48, 76),
    "celesta": Instrument("mallets", (8,), 67, 91),
    "glockenspiel": Instrument("mallets", (9,), 72, 93),
    "music box": Instrument("mallets", (10,), 67, 91),
    "vibraphone": Instrument("mallets", (11,), 60, 86),
    "marimba": Instrument("mallets", (12,), 52, 84),
    "xylophone": Instrument("mallets", (13,), 65, 93),
    "tubular bells": Instrument("mallets", (14,), 60, 77),
    "dulcimer": Instrument("plucked strings", (15,), 57, 84),
    "organ": Instrument("organ", (16, 17, 18), 55, 84, True),
    "church organ": Instrument("organ", (19,), 50, 84, True),
    "harmonium": Instrument("organ", (20,), 53, 79, True),
    "accordion": Instrument("accordion", (21, 23), 57, 84, True),
    "harmonica": Instrument("accordion", (22,), 60, 84),
    "acoustic guitar": Instrument("guitar", (24, 25), 52, 76, True),
    "electric guitar": Instrument("guitar", (26, 27, 28, 29, 30), 52, 79),
    "electric bass": Instrument("bass", (33, 34, 35), 28, 50),
    "upright bass": Instrument("bass", (32,), 28, 50),
    "synth bass": Instrument("bass", (38, 39), 28, 50),
    "violin": Instrument("bowed strings", (40, 110), 57, 90),
    "viola": Instrument("bowed strings", (41,), 48, 79),
    "cello": Instrument("bowed strings", (42,), 38, 67),
    "strings": Instrument("bowed strings", (48, 49), 50, 84, True),
    "harp": Instrument("plucked strings", (46,), 48, 86, True),
    "choir": Instrument("voice", (52, 53), 50, 79, True),
    "trumpet": Instrument("brass", (56, 59), 55, 82),
    "trombone": Instrument("brass", (57,), 41, 70),
    "tuba": Instrument("brass", (58,), 29, 55),
    "french horn": Instrument("brass", (60,), 43, 74),
    "brass": Instrument("brass", (61,), 48, 79, True),
    "saxophone": Instrument("reeds", (64, 65, 66, 67), 50, 78),
    "oboe": Instrument("reeds", (68,), 58, 86),
    "english horn": Instrument("reeds", (69,), 52, 78),
    "bassoon": Instrument("reeds", (70,), 36, 65),
    "clarinet": Instrument("reeds", (71,), 50, 84),
    "bagpipes": Instrument("reeds", (109,), 57, 77),
    "piccolo": Instrument("flutes", (72,), 74, 98),
    "flute": Instrument("flutes", (73,), 60, 93),
    "recorder": Instrument("flutes", (74,), 65, 91),
    "pan flute": Instrument("flutes", (75,), 62, 88),
    "shakuhachi": Instrument("flutes", (77,), 57, 81),
    "ocarina": Instrument("flutes", (79,), 65, 89),
    "sitar": Instrument("plucked strings", (104,), 48, 74),
    "banjo": Instrument("plucked strings", (105,), 52, 79),
    "shamisen": Instrument("plucked strings", (106,), 50, 76),
    "koto": Instrument("plucked strings", (107,), 52, 81),
    "kalimba": Instrument("mallets", (108,), 57, 84),
    "synthesizer": Instrument("synthesizer", (80, 81, 82, 84, 85, 87, 88, 89, 90), 53, 86),
}

BASSES = {"upright bass": (32,), "electric bass": (33, 34, 35, 36), "synth bass": (38, 39)}

# Chord players and leads that a genre's listeners expect; half of the line-ups are drawn from all instruments instead.
LEADS = {
    "ambient": ("synthesizer", "piano", "pan flute", "choir", "harp"),
    "ballroom": ("violin", "accordion", "piano", "clarinet", "saxophone"),
    "blues": ("electric guitar", "harmonica", "saxophone", "piano"),
    "caribbean": ("marimba", "flute", "trumpet", "kalimba"),
    "classical": ("violin", "cello", "flute", "oboe", "piano", "harp", "french horn", "clarinet", "viola"),
    "country": ("violin", "banjo", "acoustic guitar", "harmonica", "electric guitar"),
    "folk": ("flute", "violin", "accordion", "recorder", "acoustic guitar", "bagpipes"),
    "gospel": ("organ", "choir", "piano", "saxophone"),
    "jazz": ("saxophone", "trumpet", "piano", "vibraphone", "clarinet", "trombone", "acoustic guitar"),
    "latin": ("trumpet", "flute", "piano", "saxophone", "acoustic guitar"),
    "march": ("trumpet", "piccolo", "brass", "clarinet", "tuba"),
    "musical theatre": ("trumpet", "violin", "clarinet", "piano"),
    "polka": ("accordion", "clarinet", "trumpet", "tuba"),
    "ragtime": ("piano", "banjo", "clarinet"),
    "world": ("sitar", "pan flute", "kalimba", "shakuhachi", "koto"),
}
POPULAR_LEADS = ("electric guitar", "synthesizer", "saxophone", "piano", "electric piano", "organ", "trumpet")
CHORDS = {
    "classical": ("strings", "piano", "harp", "harpsichord"), "gospel": ("organ", "piano", "choir"),
    "folk": ("acoustic guitar", "accordion", "harp"), "country": ("acoustic guitar", "piano", "banjo"),
    "metal": ("electric guitar",), "punk": ("electric guitar",), "rock": ("electric guitar", "organ", "piano"),
    "electronic": ("synthesizer", "strings", "electric piano"), "ambient": ("synthesizer", "strings", "choir"),
    "march": ("brass", "strings"), "polka": ("accordion",),
}  # fmt: skip
POPULAR_CHORDS = ("piano", "electric piano", "acoustic guitar", "electric guitar", "organ", "strings", "synthesizer",
                  "accordion", "brass", "choir", "harp", "vibraphone", "marimba", "harpsichord")
DISTORTED = (29, 30)


def chord_programs(name: str, genre: str) -> tuple[int, ...]:
    """Return the programs of an instrument that plays chords: guitars are distorted in rock and clean elsewhere."""
    if name == "electric guitar":
        return DISTORTED if genre in ("rock", "metal", "punk") else (26, 27, 28)
    return MELODIC[name].programs
