"""Captions, questions and answers of a clip, worded from its plan."""

import random

from demo_corpus.plan import ClipPlan
from demo_corpus.wordings import (
    ANSWERS,
    CAPTIONS,
    DESCRIPTIONS,
    EFFECTS,
    PACES,
    PLACES,
    QUESTIONS,
    RHYTHM,
    TEMPO_ADJECTIVES,
    USE_EFFECT_IS_SINGULAR,
    USES,
)

LONG_TYPES = ("long_description", "long_use")
SHORT_TYPES = tuple(name for name in QUESTIONS if name not in LONG_TYPES)


def caption(plan: ClipPlan) -> str:
    """A MusicCaps-like caption."""
    rng = random.Random(f"{plan.seed}/caption")
    return rng.choice(CAPTIONS).format(**_words(plan, rng))


def aspects(plan: ClipPlan) -> list[str]:
    """A MusicCaps-like aspect list."""
    drums = "drums" if plan.drums else "no drums"
    return [plan.groove.genre, plan.groove.subgenre, f"{plan.tempo_class} tempo", f"{plan.lead} melody",
            f"{plan.accompaniment} accompaniment", plan.bass, drums, plan.mood, f"{plan.groove.metre} time",
            f"{plan.mode} key", "instrumental"]


def question(plan: ClipPlan, question_type: str) -> str:
    return random.Random(f"{plan.seed}/question/{question_type}").choice(QUESTIONS[question_type])


def answer(plan: ClipPlan, question_type: str) -> str:
    rng = random.Random(f"{plan.seed}/answer/{question_type}")
    words = _words(plan, rng)
    if question_type == "long_description":
        return rng.choice(DESCRIPTIONS).format(**words)
    if question_type == "long_use":
        return _use(plan, words, rng)
    return rng.choice(ANSWERS[_answer_key(plan, question_type)]).format(**words)


def listing(names: tuple[str, ...]) -> str:
    """`flute, piano and drums`."""
    return ", ".join(names[:-1]) + " and " + names[-1]


def _answer_key(plan: ClipPlan, question_type: str) -> str:
    if question_type == "drums":
        return "drums yes" if plan.drums else "drums no"
    if question_type == "bass":
        return "bass none" if plan.bass == "no bass" else "bass some"
    return question_type


def _use(plan: ClipPlan, words: dict[str, str], rng: random.Random) -> str:
    number = rng.randrange(len(USES))
    effect = rng.choice(EFFECTS[plan.mood])[USE_EFFECT_IS_SINGULAR[number]]
    return USES[number].format(**words, place=rng.choice(PLACES[plan.mood]), effect=effect)


def _words(plan: ClipPlan, rng: random.Random) -> dict[str, str]:
    """The facts as words; `a_x` has its article, `A_x` begins a sentence."""
    words = {
        "genre": plan.groove.genre, "subgenre": plan.groove.subgenre, "tempo": plan.tempo_class,
        "tempo_adjective": TEMPO_ADJECTIVES[plan.tempo_class],
        "pace": rng.choice(PACES[plan.tempo_class]), "lead": plan.lead, "accompaniment": plan.accompaniment,
        "bass": plan.bass, "mood": plan.mood, "metre": plan.groove.metre, "key": plan.key, "mode": plan.mode,
    }
    words |= {f"a_{name}": _with_article(word) for name, word in words.items()}
    words |= {f"A_{name.removeprefix('a_')}": _capital(word) for name, word in words.items() if name[:2] == "a_"}
    rhythm = rng.choice(RHYTHM[plan.bass != "no bass", plan.drums]).format(**words)
    words |= {"the_lead": f"the {plan.lead}", "instruments": listing(plan.instruments)}
    return words | {"Rhythm": _capital(rhythm)}


def _with_article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
