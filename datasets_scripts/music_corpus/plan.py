"""The plan of the corpus: what every clip shall be, drawn from seeds before a note sounds."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from demo_corpus.chords import KEYS

from music_corpus.groove_library import LibraryGroove, demo_test_pairs, library, split_files
from music_corpus.harmony import draw_progression
from music_corpus.instruments import BASSES, CHORDS, LEADS, MELODIC, POPULAR_CHORDS, POPULAR_LEADS
from music_corpus.sounds import SOUNDFONTS_OF

SEED = 2027
CLIPS_A_SONG = 3
TEMPI = {"slow": (50, 85), "medium": (95, 120), "fast": (135, 190)}
BETWEEN = ((86, 94), (121, 134))
KINDS_A_CYCLE = ("song",) * 11 + ("solo",) * 4 + ("other",)  # of 16 groups of three clips
SPLITS = ("train",) * 17 + ("validation",) * 3 + ("test",) * 3
FULL_MIX = 0.35  # share of songs' clips in which drums, bass, chords and lead all play
PRESENT = {"drums": 0.62, "bass": 0.68, "chords": 0.72, "lead": 0.7}
SIX_EIGHT_SHARE = 0.1  # of the songs; the library has few such grooves


@dataclass(frozen=True)
class ClipPlan:
    """All that is decided about one clip; what then sounds is read from its notes."""

    number: int
    kind: str  # song, solo, other
    split: str
    groove: LibraryGroove | None = None
    numerals: str = ""
    mode: str = "major"
    key: str = "C"
    tempo_bpm: int = 100
    tempo_class: str | None = None
    lead: str | None = None
    chords: str | None = None  # None: no chords; "groove": the groove's own instruments
    bass: str | None = None
    drums: bool = False
    soundfont: str = ""

    @property
    def clip_id(self) -> str:
        """Return the clip's name, which is its place in the plan."""
        return f"m{self.number:06d}"

    @property
    def seed(self) -> str:
        """Feeds what the plan leaves open: notes, start, levels and effects."""
        return f"{SEED}/{self.number}"

    @property
    def song_seed(self) -> int:
        """Feeds mma; the clips of one song share it."""
        return random.Random(f"{SEED}/song/{self.number // CLIPS_A_SONG}").randrange(1 << 31)


def plan_clips(count: int) -> Iterator[ClipPlan]:
    """Yield the first `count` clips; a longer plan begins with the shorter one."""
    number = 0
    while number < count:
        group = number // CLIPS_A_SONG
        rng = random.Random(f"{SEED}/group/{group}")
        yield from _plan_group(number, rng)[: count - number]
        number += CLIPS_A_SONG


def _plan_group(first: int, rng: random.Random) -> list[ClipPlan]:
    """Plan three clips: of one song in three keys, tempi and line-ups, of three soloists, or of three other sounds."""
    kind, split = _kind_of(first // CLIPS_A_SONG), rng.choice(SPLITS)
    numbers = range(first, first + CLIPS_A_SONG)
    if kind == "other":
        return [ClipPlan(number, kind, split) for number in numbers]
    if kind == "solo":
        return [_plan_solo(number, split, rng) for number in numbers]
    groove, (mode, numerals) = _draw_song(split, rng)
    return [_plan_clip(number, split, groove, mode, numerals, rng) for number in numbers]


def _kind_of(group: int) -> str:
    """Every 16 groups hold each kind in its share, in an order of their own."""
    cycle, place = divmod(group, len(KINDS_A_CYCLE))
    return random.Random(f"{SEED}/cycle/{cycle}").sample(KINDS_A_CYCLE, len(KINDS_A_CYCLE))[place]


def _draw_song(split: str, rng: random.Random) -> tuple[LibraryGroove, tuple[str, str]]:
    while True:
        groove, (mode, numerals) = _draw_groove(split, rng), draw_progression(rng)
        if (groove.file, numerals) not in demo_test_pairs():
            return groove, (mode, numerals)


def _draw_groove(split: str, rng: random.Random) -> LibraryGroove:
    """Draw a genre by the root of its size, then one of its files, then one of the file's grooves."""
    genres = {genre: files for genre, files in split_files()[split].items() if files}
    if rng.random() < SIX_EIGHT_SHARE:
        compound = [file for files in genres.values() for file in files if library()[file][0].metre == "6/8"]
        if compound:
            return rng.choice(library()[rng.choice(compound)])
    genre = rng.choices(list(genres), [len(files) ** 0.5 for files in genres.values()])[0]
    return rng.choice(library()[rng.choice(genres[genre])])


def _plan_solo(number: int, split: str, rng: random.Random) -> ClipPlan:
    mode, numerals = draw_progression(rng)
    metre = rng.choices(("4/4", "3/4", "6/8"), (5, 3, 2))[0]
    beats = {"4/4": 4, "3/4": 3, "6/8": 6}[metre]
    groove = LibraryGroove("", "", "", "", metre, beats, metre == "4/4" and rng.random() < 0.25)
    tempo_class, tempo = _draw_tempo(rng)
    return ClipPlan(number, "solo", split, groove, numerals, mode, rng.choice(KEYS), tempo, tempo_class,
                    lead=rng.choice(list(MELODIC)), soundfont=rng.choice(SOUNDFONTS_OF[split]))


def _plan_clip(
    number: int, split: str, groove: LibraryGroove, mode: str, numerals: str, rng: random.Random
) -> ClipPlan:
    parts = _draw_parts(rng)
    tempo_class, tempo = _draw_tempo(rng)
    lead = chords = bass = None
    if "lead" in parts:
        expected = LEADS.get(groove.genre, POPULAR_LEADS)
        lead = rng.choice(expected if rng.random() < 0.5 else list(MELODIC))
    if "chords" in parts:
        draw = rng.random()
        chords = "groove" if draw < 0.5 and not groove.only_drums else rng.choice(
            CHORDS.get(groove.genre, POPULAR_CHORDS) if draw < 0.75 else POPULAR_CHORDS
        )
    if "bass" in parts:
        bass = rng.choice(("groove", *BASSES)) if not groove.only_drums else rng.choice(list(BASSES))
    return ClipPlan(number, "song", split, groove, numerals, mode, rng.choice(KEYS), tempo, tempo_class, lead, chords,
                    bass, "drums" in parts, rng.choice(SOUNDFONTS_OF[split]))


def _draw_parts(rng: random.Random) -> set[str]:
    if rng.random() < FULL_MIX:
        return set(PRESENT)
    while True:
        parts = {part for part, share in PRESENT.items() if rng.random() < share}
        if parts:
            return parts


def _draw_tempo(rng: random.Random) -> tuple[str | None, int]:
    tempo_class = rng.choices((*TEMPI, None), (30, 30, 30, 10))[0]
    low, high = TEMPI[tempo_class] if tempo_class else rng.choice(BETWEEN)
    return tempo_class, rng.randint(low, high)
