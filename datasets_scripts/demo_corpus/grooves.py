"""The grooves and genres of the demo corpus, with what each may vary."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Genre:
    """What the line-ups of one genre are drawn from; the instruments name entries of sounds.py."""

    leads: tuple[str, ...]
    accompaniment: tuple[str, str]
    basses: tuple[str, str]
    drum_kit: int = 0  # General MIDI (GS) kit program


@dataclass(frozen=True)
class Groove:
    """One groove of mma's library and the name under which listeners know it."""

    name: str
    file: str  # below mma's library folder
    subgenre: str
    genre: str
    tempi: tuple[str, str]  # usual tempo class, then the rarer one
    minor: int  # how many of its three chord progressions are minor
    metre: str = "4/4"
    beats: int = 4  # mma's beats a bar
    swing: bool = False
    bass_tracks: tuple[str, ...] = ("Bass", "Walk")
    held_out: bool = False

    @property
    def mma_tempo_factor(self) -> int:
        """mma counts six beats a bar where listeners feel two."""
        return 3 if self.beats == 6 else 1


GENRES = {
    "jazz": Genre(("saxophone", "trumpet", "piano", "vibraphone"), ("piano", "acoustic guitar"),
                  ("upright bass", "electric bass"), 32),
    "blues": Genre(("saxophone", "electric guitar", "piano", "trumpet"), ("organ", "acoustic guitar"),
                   ("upright bass", "electric bass")),
    "rock": Genre(("electric guitar", "synthesizer", "saxophone", "piano"), ("electric guitar", "organ"),
                  ("electric bass", "synth bass"), 16),
    "country": Genre(("violin", "electric guitar", "flute", "piano"), ("acoustic guitar", "accordion"),
                     ("upright bass", "electric bass")),
    "folk": Genre(("flute", "violin", "vibraphone", "piano"), ("acoustic guitar", "accordion"),
                  ("upright bass", "electric bass")),
    "latin": Genre(("trumpet", "flute", "piano", "vibraphone"), ("piano", "acoustic guitar"),
                   ("upright bass", "electric bass")),
    "ballroom": Genre(("violin", "piano", "saxophone", "flute"), ("accordion", "strings"),
                      ("upright bass", "electric bass")),
    "electronic": Genre(("synthesizer", "vibraphone", "electric guitar", "violin"), ("synthesizer", "organ"),
                        ("synth bass", "electric bass"), 25),
    "funk": Genre(("saxophone", "trumpet", "electric guitar", "synthesizer"), ("electric guitar", "organ"),
                  ("electric bass", "synth bass")),
    "hip-hop": Genre(("synthesizer", "vibraphone", "flute", "violin"), ("synthesizer", "strings"),
                     ("synth bass", "upright bass"), 25),
    "march": Genre(("trumpet", "flute", "vibraphone", "saxophone"), ("brass", "strings"),
                   ("upright bass", "electric bass")),
    "pop": Genre(("synthesizer", "electric guitar", "violin", "trumpet"), ("piano", "strings"),
                 ("electric bass", "synth bass")),
}

CASIO_BASS = ("Bass-9",)

GROOVES = (
    Groove("Swing", "stdlib/swing.mma", "swing", "jazz", ("fast", "slow"), 1, swing=True),
    Groove("JazzWaltz", "stdlib/jazzwaltz.mma", "jazz waltz", "jazz", ("medium", "slow"), 1, "3/4", 3, swing=True),
    Groove("Bebop", "stdlib/bebop.mma", "bebop", "jazz", ("fast", "medium"), 2, swing=True),
    Groove("SlowBlues", "stdlib/slowblues.mma", "slow blues", "blues", ("slow", "medium"), 2, swing=True),
    Groove("Blues68", "stdlib/blues68.mma", "six-eight blues", "blues", ("slow", "medium"), 1, "6/8", 6),
    Groove("ShuffleBoggie", "stdlib/shuffleboggie.mma", "boogie shuffle", "blues", ("fast", "medium"), 0, swing=True,
           held_out=True),
    Groove("BasicRock", "stdlib/basicrock.mma", "classic rock", "rock", ("medium", "fast"), 0),
    Groove("RockWaltz", "stdlib/rockwaltz.mma", "rock waltz", "rock", ("slow", "medium"), 2, "3/4", 3),
    Groove("HeavyMetal", "casio/heavymetal.mma", "heavy metal", "rock", ("fast", "medium"), 3,
           bass_tracks=CASIO_BASS),
    Groove("CountryWaltz", "stdlib/countrywaltz.mma", "country waltz", "country", ("slow", "fast"), 0, "3/4", 3),
    Groove("BlueGrass", "stdlib/bluegrass.mma", "bluegrass", "country", ("fast", "medium"), 0),
    Groove("WesternSwing", "stdlib/westernswing.mma", "western swing", "country", ("medium", "fast"), 1, swing=True,
           held_out=True),
    Groove("FolkRock", "stdlib/folkrock.mma", "folk rock", "folk", ("medium", "slow"), 2),
    Groove("FastWaltz", "stdlib/fastwaltz.mma", "folk waltz", "folk", ("fast", "slow"), 2, "3/4", 3),
    Groove("68Swing", "stdlib/68swing.mma", "jig", "folk", ("medium", "slow"), 1, "6/8", 6),
    Groove("Samba", "stdlib/samba.mma", "samba", "latin", ("fast", "slow"), 1),
    Groove("LatinWaltz", "stdlib/latinwaltz.mma", "latin waltz", "latin", ("slow", "fast"), 2, "3/4", 3),
    Groove("BossaNova", "stdlib/bossanova.mma", "bossa nova", "latin", ("medium", "slow"), 1, held_out=True),
    Groove("Tango", "stdlib/tango.mma", "tango", "ballroom", ("medium", "slow"), 3),
    Groove("VieneseWaltz", "stdlib/vienesewaltz.mma", "viennese waltz", "ballroom", ("fast", "slow"), 0, "3/4", 3),
    Groove("Foxtrot", "stdlib/foxtrot.mma", "foxtrot", "ballroom", ("slow", "fast"), 1, swing=True),
    Groove("Trance", "stdlib/trance.mma", "trance", "electronic", ("fast", "medium"), 3),
    Groove("House", "casio/house.mma", "house", "electronic", ("medium", "fast"), 2, bass_tracks=CASIO_BASS),
    Groove("Techno", "casio/techno.mma", "techno", "electronic", ("fast", "medium"), 2, bass_tracks=CASIO_BASS,
           held_out=True),
    Groove("BVFunk", "stdlib/bvfunk.mma", "street funk", "funk", ("medium", "slow"), 2),
    Groove("Funk1", "casio/funk1.mma", "fusion funk", "funk", ("medium", "fast"), 1, bass_tracks=CASIO_BASS),
    Groove("DSoul", "stdlib/dsoul.mma", "soul", "funk", ("slow", "medium"), 1, held_out=True),
    Groove("HipHop", "alexis/hiphop.mma", "boom bap", "hip-hop", ("slow", "medium"), 3,
           bass_tracks=("Bass-Synthbass",)),
    Groove("TripHop", "casio/triphop.mma", "trip hop", "hip-hop", ("slow", "medium"), 2, bass_tracks=CASIO_BASS),
    Groove("Hip-Hop", "casio/hip-hop.mma", "electro rap", "hip-hop", ("medium", "fast"), 2, bass_tracks=CASIO_BASS),
    Groove("68March", "stdlib/68march.mma", "six-eight march", "march", ("medium", "slow"), 0, "6/8", 2),
    Groove("BWMarch", "stdlib/bwmarch.mma", "military march", "march", ("medium", "fast"), 1),
    Groove("DixieMarch", "stdlib/dixiemarch.mma", "dixie march", "march", ("medium", "fast"), 0, held_out=True),
    Groove("DiscoSoul", "casio/discosoul.mma", "disco", "pop", ("fast", "slow"), 1, bass_tracks=CASIO_BASS),
    Groove("PopBallad", "stdlib/popballad.mma", "pop ballad", "pop", ("slow", "fast"), 1),
    Groove("PopWaltz", "casio/popwaltz.mma", "pop waltz", "pop", ("slow", "fast"), 1, "3/4", 3,
           bass_tracks=CASIO_BASS),
)
