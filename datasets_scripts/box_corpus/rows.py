"""Questions and answers about a clip, worded from what is known of it; the same seed gives the same words."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from box_corpus.facts import Known
from box_corpus.wordings import (
    ANSWERS,
    LEADS,
    LINE_UPS,
    METRES,
    MOODS,
    OPENINGS,
    PLURAL_PRESENCE_ANSWERS,
    PLURAL_PRESENCE_QUESTIONS,
    PRESENCE_ANSWERS,
    PRESENCE_QUESTIONS,
    QUESTIONS,
    RHYTHMS,
    TEMPO_WORDS,
    USES,
    VOICES,
)

sys.path.insert(0, str(Path(__file__).parents[1]))
from demo_corpus.wordings import EFFECTS, PLACES  # noqa: E402

PLURAL = ("strings", "drums")
# Of what is the same for most clips, the share of the clips that are asked about it.
SHARES = {
    "classical no": 0.35, "vocals no": 0.35, "voice none": 0.35, "music yes": 0.35, "long_description": 0.5,
    "long_use": 0.25, "unknown": 0.4,
}  # fmt: skip
PRESENCE_ROWS = 6  # drawn without regard to the answer, so that yes is as rare as it is
REAL_TIMES = 8  # real clips are few, and are asked about in more words
CARRIED_TIMES = 4  # so are renderings about what the ears' tags say too: that is what carries over to real music
ASKED_OF_NO_MUSIC = ("mood", "tempo_class", "instruments", "voice", "drums", "long_description", "long_use")


def make_rows(known: Known, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the rows of a clip, in the columns that `--dataset FILE` reads."""
    rng = random.Random(f"{seed}/{known.clip_id}")
    times = REAL_TIMES if known.music and not known.rendered and known.split == "train" else 1
    pairs = [pair for _ in range(times) for pair in (say_all(known, rng) if known.music else say_no_music(rng))]
    for kind, question, answer in pairs:
        yield {
            "clip_id": known.clip_id, "audio": str(known.audio), "split": known.split, "question_type": kind,
            "question": question, "answer": answer,
        }  # fmt: skip


def say_all(known: Known, rng: random.Random) -> Iterator[tuple[str, str, str]]:
    """Yield question type, question and answer of everything that is known of a clip with music."""
    for kind, key, option in list_facts(known):
        if rng.random() >= SHARES.get(key, 1.0):
            continue
        for _ in range(CARRIED_TIMES if kind in known.carried else 1):
            yield kind, rng.choice(QUESTIONS[kind]), fill(rng.choice(ANSWERS[key]), option)
    asked = set(rng.sample(list(known.presence), min(PRESENCE_ROWS, len(known.presence))))
    for name, plays in known.presence.items():
        if name in asked:
            yield name.replace(" ", "_"), *ask_presence(name, plays, rng)
    if known.audible:
        yield "instruments", rng.choice(QUESTIONS["instruments"]), fill(
            rng.choice(ANSWERS["instruments"]), join_words(known.audible)
        )
    if rng.random() < SHARES["long_description"]:
        yield "long_description", rng.choice(QUESTIONS["long_description"]), describe(known, rng)
    if known.mood in PLACES and rng.random() < SHARES["long_use"]:
        yield "long_use", rng.choice(QUESTIONS["long_use"]), suggest(known.mood, rng)
    if rng.random() < SHARES["unknown"]:
        yield "unknown", rng.choice(QUESTIONS["unknown"]), rng.choice(ANSWERS["unknown"])


def list_facts(known: Known) -> Iterator[tuple[str, str, str]]:
    """Yield question type, key of its answers and option of what is known."""
    for kind in ("genre", "mood", "energy", "tempo_class", "metre", "lead_instrument", "lead_family", "electronic"):
        option = getattr(known, kind)
        if option:
            yield kind, kind, option
    if known.classical is not None:
        yield "classical", f"classical {'yes' if known.classical else 'no'}", ""
    if known.vocals is not None:
        yield "vocals", f"vocals {'yes' if known.vocals else 'no'}", ""
    if known.voice is not None:
        yield "voice", f"voice {known.voice}", ""
    if known.drums is not None:
        yield "drums", f"drums {'yes' if known.drums else 'no'}", ""
    if known.bass is not None:
        yield "bass", "bass none" if known.bass == "no bass" else "bass some", known.bass
    yield "music", "music yes", ""


def say_no_music(rng: random.Random) -> Iterator[tuple[str, str, str]]:
    """Yield rows about a clip in which there is no music."""
    for question in QUESTIONS["music"][:3]:
        yield "music", question, rng.choice(ANSWERS["music no"])
    for kind in rng.sample(ASKED_OF_NO_MUSIC, 4):
        yield kind, rng.choice(QUESTIONS[kind]), rng.choice(ANSWERS["no music"])


def ask_presence(name: str, plays: bool, rng: random.Random) -> tuple[str, str]:
    """Return a question whether an instrument plays, and its answer."""
    plural = name in PLURAL
    questions = PLURAL_PRESENCE_QUESTIONS if plural else PRESENCE_QUESTIONS
    answers = PLURAL_PRESENCE_ANSWERS if plural else PRESENCE_ANSWERS
    words = {"name": name, "a_name": name if plural else with_article(name), "Is_there": "Is there"}
    return rng.choice(questions).format(**words), rng.choice(answers[plays]).format(**words)


def fill(template: str, option: str) -> str:
    """Put an option into an answer."""
    if not option:
        return template
    article = with_article(option)
    return template.format(x=option, a_x=article, A_x=capital(article), the_x=f"the {option}")


def describe(known: Known, rng: random.Random) -> str:
    """Return a few sentences of what is known and can be heard: a lead or a bass that cannot is left out."""
    kind = [*([rng.choice(TEMPO_WORDS[known.tempo_class])] if known.tempo_class else [])]
    kind += [known.genre] if known.genre else []
    kind.append("instrumental" if known.vocals is False else "song" if known.vocals else "piece of music")
    phrase = with_article(" ".join(kind))
    sentences = [rng.choice(OPENINGS).format(a_kind=phrase, A_kind=capital(phrase))]
    if known.voice in ("female", "male"):
        sentences.append(rng.choice(VOICES[known.voice]))
    lead = known.lead_instrument
    if lead in known.audible:
        sentences.append(rng.choice(LEADS).format(A_lead=capital(with_article(lead)), the_lead=f"the {lead}"))
    others = known.audible if known.instruments else [name for name, plays in known.presence.items() if plays]
    if others:
        sentences.append(rng.choice(LINE_UPS).format(instruments=join_words(others)))
    bass = known.bass
    rhythm = (None if bass is None else bass != "no bass", known.drums)
    if rhythm in RHYTHMS:
        article = with_article(bass if bass in known.audible else "bass") if bass else ""
        sentences.append(rng.choice(RHYTHMS[rhythm]).format(a_bass=article, A_bass=capital(article)))
    if known.metre:
        sentences.append(rng.choice(METRES).format(metre=known.metre))
    if known.mood:
        sentences.append(rng.choice(MOODS).format(mood=known.mood))
    return " ".join(sentences)


def suggest(mood: str, rng: random.Random) -> str:
    """Return a use for a piece of some mood."""
    return rng.choice(USES).format(place=rng.choice(PLACES[mood]), mood=mood, effect=rng.choice(EFFECTS[mood])[1])


def join_words(words: list[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def with_article(words: str) -> str:
    """Return words behind the article that they need."""
    return f"{'an' if words[:1].lower() in 'aeiou' else 'a'} {words}"


def capital(text: str) -> str:
    """Return a text that begins with a capital."""
    return text[:1].upper() + text[1:]
