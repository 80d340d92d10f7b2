"""The grooves of mma's library with their genres, which split hears them, and which are kept out of every training."""

import functools
from dataclasses import dataclass
from pathlib import Path

from demo_corpus.chords import PROGRESSIONS
from demo_corpus.grooves import GROOVES
from demo_corpus.plan import plan_corpus

TABLE = Path(__file__).with_name("grooves.txt")
MMA_BEATS = {"4/4": 4, "3/4": 3, "6/8": 6, "12/8": 4}  # the usual beats a bar in mma's own count

# Kept for a test that is independent of this corpus.
INDEPENDENT_TEST_FILES = frozenset({
    "alexis/teamtechno", "casio/8beatballad1", "casio/blues", "casio/funk2", "casio/germanmarch", "casio/house",
    "casio/jazzwaltz", "casio/polka", "casio/poppolka", "casio/popwaltz", "casio/swing", "casio/techno",
    "pflib/rock1", "stdlib/countryswing", "stdlib/easyswing", "stdlib/mambo", "stdlib/modernjazzwaltz",
    "stdlib/slowbolero", "stdlib/softrock", "yamaha/jazzbasie", "yamaha/jazzbossa", "yamaha/salsa2", "yamaha/western",
})  # fmt: skip
DEMO_TEST_FILES = frozenset(groove.file.removesuffix(".mma") for groove in GROOVES if groove.held_out)


@dataclass(frozen=True)
class LibraryGroove:
    """One groove of mma's library, as a listener would name it."""

    name: str
    file: str  # below mma's library folder, without .mma
    genre: str
    subgenre: str
    metre: str
    beats: int  # mma's beats a bar
    swing: bool

    @property
    def mma_tempo_factor(self) -> float:
        """Return mma's beats to one felt beat: compound metres are felt in two (6/8) or four (12/8)."""
        return self.beats / 2 if self.metre == "6/8" else 1

    @property
    def only_drums(self) -> bool:
        """Return whether the groove is a drum machine's pattern, without bass and chords."""
        return self.file.startswith("zoom/")


@functools.cache
def library() -> dict[str, list[LibraryGroove]]:
    """Return the usable grooves of each library file, in the order of the table."""
    files: dict[str, list[LibraryGroove]] = {}
    genre = ""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            genre = line.removeprefix("## ")
        elif not line.startswith("#"):
            grooves = _read_line(genre, line)
            files[grooves[0].file] = grooves
    return files


@functools.cache
def split_files() -> dict[str, dict[str, list[str]]]:
    """Return {split: {genre: files}}: of genres with four files or more, a ninth is for validation, a ninth test."""
    by_genre: dict[str, list[str]] = {}
    for file, grooves in library().items():
        by_genre.setdefault(grooves[0].genre, []).append(file)
    splits: dict[str, dict[str, list[str]]] = {"train": {}, "validation": {}, "test": {}}
    for genre, files in by_genre.items():
        held = 0 if len(files) < 4 else max(1, round(len(files) / 9))
        step = len(files) / (2 * held) if held else 0
        picked = [files[int(number * step)] for number in range(2 * held)]
        for split, chosen in (("test", picked[::2]), ("validation", picked[1::2])):
            splits[split][genre] = chosen
        splits["train"][genre] = [file for file in files if file not in picked]
    return splits


@functools.cache
def demo_test_pairs() -> frozenset[tuple[str, str]]:
    """Return the (library file, chord progression) pairs that the embedded corpus is tested on."""
    tested = [plan for plan in plan_corpus() if plan.split != "train"]
    return frozenset((plan.groove.file.removesuffix(".mma"), PROGRESSIONS[plan.chords]) for plan in tested)


def _read_line(genre: str, line: str) -> list[LibraryGroove]:
    subgenre, place, names = (part.strip() for part in line.split("|"))
    file, *flags = place.split()
    metre, _, beats = next((flag for flag in flags if flag[0].isdigit()), "4/4").partition(":")
    count = int(beats) if beats else MMA_BEATS[metre]
    return [LibraryGroove(name, file, genre, subgenre, metre, count, "swing" in flags) for name in names.split()]
