"""Invented artists of the demo corpus, each with a home genre and all of its clips in one split."""

import random
from collections import defaultdict
from collections.abc import Sequence

from demo_corpus.plan import SEED, ClipPlan

CLIPS_AN_ARTIST = {"train": 4.0, "validation": 2.0, "test": 2.5, "test_grooves": 2.0}
CROSSOVER_SHARE = 0.3  # of the artists that are large enough to keep their home genre: they lend out one clip

FORENAMES = ("Ada", "Bruno", "Celine", "Dario", "Edda", "Florin", "Greta", "Hugo", "Ines", "Jonas", "Kaya", "Lorenz",
             "Mira", "Nils", "Oda", "Pavel", "Rosa", "Stellan", "Tilda", "Ugo", "Vera", "Wim", "Yara",
             "Zeno")  # fmt: skip
SURNAMES = ("Ambervale", "Brindlecott", "Corriwell", "Dunmarrow", "Elverquist", "Fennimoor", "Garrowby", "Hollenbrack",
            "Iskerwood", "Jessamire", "Kettleforth", "Lindormann", "Marlowen", "Nettlegrave", "Oxtaby", "Pellarin",
            "Quillory", "Rustevelt", "Sundergast", "Tamberlin", "Umberley", "Vasterholm", "Wrenfield",
            "Yarrowin")  # fmt: skip
COLOURS = ("Amber", "Copper", "Crimson", "Ivory", "Jade", "Marble", "Ochre", "Paper", "Scarlet", "Tin", "Umber",
           "Wicker")  # fmt: skip
NOUNS = ("Almanac", "Carousel", "Compass", "Ferry", "Lanterns", "Magpies", "Orchard", "Pilots", "Quarry", "Sparrows",
         "Thimbles", "Weathervanes")  # fmt: skip


def assign_artists(plans: Sequence[ClipPlan], seed: int = SEED) -> dict[str, str]:
    """Clip id → artist. No artist is in two splits, and more of its clips are of its home genre than of any other."""
    names, artists = _names(seed), {}
    for split, clips in CLIPS_AN_ARTIST.items():
        rng = random.Random(f"{seed}/artists/{split}")
        homes = _deal([plan for plan in plans if plan.split == split], clips, rng)
        _cross_over(homes, rng)
        for clip_ids in homes:
            artists |= dict.fromkeys(clip_ids, names.pop())
    return artists


def _deal(plans: list[ClipPlan], clips_an_artist: float, rng: random.Random) -> list[list[str]]:
    """The clips of each artist, all of one genre."""
    by_genre = defaultdict(list)
    for plan in plans:
        by_genre[plan.groove.genre].append(plan.clip_id)
    homes = []
    for clip_ids in by_genre.values():
        rng.shuffle(clip_ids)
        count = max(1, round(len(clip_ids) / clips_an_artist))
        homes += [clip_ids[number::count] for number in range(count)]
    return homes


def _cross_over(homes: list[list[str]], rng: random.Random) -> None:
    """Some artists with three clips or more pass one of theirs on to the next such artist, going round."""
    large = [home for home in homes if len(home) >= 3]
    lending = rng.sample(large, round(CROSSOVER_SHARE * len(large)))
    lent = [home.pop() for home in lending]
    for home, clip_id in zip(lending, lent[1:] + lent[:1], strict=True):
        home.append(clip_id)


def _names(seed: int) -> list[str]:
    """Every name that there is, in a random order: people's, bands' and a person's with a band."""
    people = [f"{first} {last}" for first in FORENAMES for last in SURNAMES]
    bands = [f"The {colour} {noun}" for colour in COLOURS for noun in NOUNS]
    rng = random.Random(f"{seed}/names")
    rng.shuffle(people)
    return sorted(people[: len(bands)] + bands, key=lambda _: rng.random())
