"""The lyrics of the demo corpus: verses and choruses whose topics lean towards a genre, and no more than that.

A song's topics are drawn from a mixture in which every topic may come up in every genre: a genre favours three topics,
each shared with other genres as a rule; a subgenre favours one more, an artist another. Nothing else of the words
depends on the genre, but for the share of instrumentals and of songs in Spanish and German.
"""

import random
from collections.abc import Sequence

from demo_corpus.lyric_words import COMMON_LINES, FRAMES, TOPICS
from demo_corpus.lyric_words_abroad import (
    GERMAN,
    GERMAN_COMMON,
    GERMAN_FRAMES,
    SPANISH,
    SPANISH_COMMON,
    SPANISH_FRAMES,
)
from demo_corpus.plan import SEED, ClipPlan

INSTRUMENTAL = "[Instrumental]"

# Set by a linear probe on TF-IDF of these words alone, on train and validation over several seeds, and then frozen:
# never by a model that hears the music as well.
GENRE_WEIGHT, SUBGENRE_WEIGHT, ARTIST_WEIGHT = 36.0, 14.0, 8.0  # beside 1 for each topic
MAIN_SHARE, SECOND_SHARE, THIRD_SHARE = 0.45, 0.25, 0.15  # of the lines; the others are common to all songs
FORMS = ("VCVC", "VCBC", "VCVBC", "VCVCV")  # verse, chorus, bridge; four lines each

GENRE_TOPICS = {
    "jazz": ("night", "love", "weather"), "blues": ("heartbreak", "work", "tavern"),
    "rock": ("road", "machine", "hope"), "country": ("road", "home", "tavern"), "folk": ("river", "sea", "home"),
    "latin": ("dance", "sea", "love"), "ballroom": ("dance", "dream", "love"),
    "electronic": ("machine", "night", "dream"), "funk": ("dance", "money", "work"),
    "hip-hop": ("money", "night", "home"), "march": ("march", "hope", "river"),
    "pop": ("love", "heartbreak", "dream"),
}  # fmt: skip
SUBGENRE_TOPIC = {
    "swing": "dance", "jazz waltz": "dream", "bebop": "night", "slow blues": "weather", "six-eight blues": "road",
    "boogie shuffle": "dance", "classic rock": "love", "rock waltz": "heartbreak", "heavy metal": "march",
    "country waltz": "heartbreak", "bluegrass": "river", "western swing": "dance", "folk rock": "road",
    "folk waltz": "love", "jig": "tavern", "samba": "weather", "latin waltz": "dream", "bossa nova": "sea",
    "tango": "heartbreak", "viennese waltz": "river", "foxtrot": "tavern", "trance": "hope", "house": "love",
    "techno": "work", "street funk": "night", "fusion funk": "machine", "soul": "hope", "boom bap": "work",
    "trip hop": "weather", "electro rap": "machine", "six-eight march": "home", "military march": "sea",
    "dixie march": "tavern", "disco": "night", "pop ballad": "home", "pop waltz": "weather",
}  # fmt: skip
INSTRUMENTAL_SHARE = {"jazz": 0.38, "electronic": 0.36, "march": 0.36, "ballroom": 0.32, "pop": 0.18, "hip-hop": 0.18}
USUAL_INSTRUMENTAL_SHARE = 0.26
# (Spanish, German); what is left is English.
LANGUAGE_SHARES = {"latin": (0.35, 0.02), "ballroom": (0.12, 0.06), "folk": (0.05, 0.1), "march": (0.03, 0.14)}
USUAL_LANGUAGE_SHARES = (0.04, 0.03)


def write_lyrics(plan: ClipPlan, artist: str, seed: int = SEED) -> tuple[str, str]:
    """(language, lyrics); an instrumental has no language and says what it is."""
    rng = random.Random(f"{seed}/lyrics/{plan.clip_id}")
    if rng.random() < INSTRUMENTAL_SHARE.get(plan.groove.genre, USUAL_INSTRUMENTAL_SHARE):
        return "", INSTRUMENTAL
    language = _draw_language(plan.groove.genre, rng)
    topics = _draw_topics(plan, artist, seed, rng)
    parts = {part: [_line(language, topics, rng) for _ in range(4)] for part in "CB"}
    form = rng.choice(FORMS)
    verses = [parts.get(part) or [_line(language, topics, rng) for _ in range(4)] for part in form]
    return language, "\n\n".join("\n".join(line[0].upper() + line[1:] for line in verse) for verse in verses)


def _draw_language(genre: str, rng: random.Random) -> str:
    spanish, german = LANGUAGE_SHARES.get(genre, USUAL_LANGUAGE_SHARES)
    return rng.choices(("es", "de", "en"), (spanish, german, 1 - spanish - german))[0]


def _draw_topics(plan: ClipPlan, artist: str, seed: int, rng: random.Random) -> list[str]:
    """The main, the second and the third topic, which may be the same."""
    weights = dict.fromkeys(TOPICS, 1.0)
    for topic in GENRE_TOPICS[plan.groove.genre]:
        weights[topic] += GENRE_WEIGHT
    weights[SUBGENRE_TOPIC[plan.groove.subgenre]] += SUBGENRE_WEIGHT
    weights[random.Random(f"{seed}/topic/{artist}").choice(list(TOPICS))] += ARTIST_WEIGHT
    return rng.choices(list(weights), list(weights.values()), k=3)


def _line(language: str, topics: Sequence[str], rng: random.Random) -> str:
    shares = (MAIN_SHARE, SECOND_SHARE, THIRD_SHARE)
    topic = rng.choices((*topics, None), (*shares, 1 - sum(shares)))[0]
    if language == "en":
        return rng.choice(COMMON_LINES) if topic is None else _english_line(topic, rng)
    words, frames, common = {
        "es": (SPANISH, SPANISH_FRAMES, SPANISH_COMMON), "de": (GERMAN, GERMAN_FRAMES, GERMAN_COMMON),
    }[language]  # fmt: skip
    if topic is None:
        return rng.choice(common)
    thing, thing2 = rng.sample(words[topic], 2)
    return rng.choice(frames).format(thing=thing, thing2=thing2)


def _english_line(topic: str, rng: random.Random) -> str:
    words = TOPICS[topic]
    thing, thing2 = rng.sample(words.things, 2)
    act, act2 = rng.sample(words.acts, 2)
    quality, quality2 = rng.sample(words.qualities, 2)
    return rng.choice(FRAMES).format(thing=thing, thing2=thing2, act=act, act2=act2, quality=quality,
                                     quality2=quality2, place=rng.choice(words.places))  # fmt: skip
