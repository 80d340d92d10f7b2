"""Questions in a listener's own words: which trained type answers one, and how a decided answer is said.

A question is of a type where it is one of the type's wordings, or where every word of it that matters is one of the
type's: a word of its wordings or options. One that joins several such questions is answered part by part. Everything
else is left to the words of the model, of which those are left out that answer another question.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from descant.answering.answers import REASONS, as_span
from descant.answering.stream import AnswerStream
from descant.data.audio import Window
from descant.models.lp_music_caps.decision_music import QuestionType, plain_words
from descant.models.lp_music_caps.terms import agrees, find_terms, read_terms
from descant.models.lp_music_caps.track_music import NOT_SURE, TrackDecider, state, state_list

# Words by which no type is known: of asking, of sound in general, and those that bind others.
FILLERS = frozenset({
    "a", "all", "am", "an", "and", "any", "anybody", "anyone", "anything", "are", "aren", "at", "audio", "be",
    "being", "by", "call", "called", "can", "clip", "could", "describe", "did", "do", "does", "doesn", "don",
    "entire", "for",
    "from", "generally", "give", "had", "has", "have", "having", "hear", "heard", "here", "how", "i", "in",
    "is", "isn", "it", "its", "just", "listen", "listening", "made", "make", "me", "most", "music", "musical", "my",
    "of", "on", "one", "or", "overall", "part", "perhaps", "piece", "play", "played", "playing", "please",
    "present", "really", "recording", "s", "say", "so", "some", "somebody", "someone", "something", "song",
    "sound", "sounded", "sounding", "soundtrack", "t", "tell", "that", "the", "there", "these", "they", "think",
    "this", "those", "to", "track", "tune", "us", "use", "used", "using", "was", "we", "were", "what",
    "which", "who", "whole", "whose", "with", "would", "you", "your",
})  # fmt: skip
NO_TYPE = frozenset({"about"})  # in wordings, but what a question is about is not said by them
SYNONYMS = {
    "sort": "kind", "type": "kind", "vibe": "mood", "emotional": "emotion", "prominent": "main", "dominant": "main",
    "primary": "main", "meter": "metre", "pacing": "pace", "drumm": "drum", "drummer": "drum",
}  # fmt: skip
OPEN = frozenset({
    "describe", "give", "how", "list", "name", "tell", "what", "when", "where", "which", "who", "whose", "why",
})  # fmt: skip
PRESENCE = re.compile(r"\b(?:there|audible|present|heard?|play(?:s|ed|ing)?|used?|using|has|have|features?)\b")
INSTRUMENTS = frozenset({"instrument", "instrumentation", "name", "list"})
ASKS_WHETHER = re.compile(r"(?:is|are|was|were|do|does|did|has|have|can|could|will|would)\b")
VERDICT = re.compile(r"^(?:yes|no)(?:[,.] *|$)", re.IGNORECASE)  # but not "No bass plays."
PARTS = re.compile(r"\s*(?:[,;/&?.!]|\b(?:and|or)\b)\s*", re.IGNORECASE)
MOST_PARTS = 6
MISSING = re.compile(r"\b(?:what|which)\b.*\b(?:not|missing|absent|lacking|lacks?)\b")
SHORT = 5  # words behind a yes or no that is about a single thing
DOUBT = "Not sure: "
LEAST_ALIKE = 0.5  # of the words that matter, shared with a wording (Jaccard's index)
LEAST_INSTRUMENTS = 3  # types that ask for one, for a list of them


@dataclass(frozen=True)
class Reading:
    """What a question asks about the types `names`: which option of one, whether `wanted` holds, or what plays.

    wanted: the option of which is asked whether it holds; None where the question is none of yes or no.
    parts: the readings of the questions that one joins, whose types `names` are.
    """

    names: tuple[str, ...]
    wanted: str | None = None
    parts: "tuple[Reading, ...]" = ()


def read_question(text: str, types: Mapping[str, QuestionType]) -> Reading | None:
    """Return which types answer a question, and how; None where it is for the words of the model."""
    return read_one(text, types) or read_several(text, types)


def read_several(text: str, types: Mapping[str, QuestionType]) -> Reading | None:
    """Return how a question that joins several is answered: "Is there a piano or a guitar?", "Genre and mood?".

    Whether several options hold at once ("Is it fast and happy?") is not said by one after another.
    """
    parts = list(filter(None, PARTS.split(text)))
    if not 1 < len(parts) <= MOST_PARTS or any(" and " in term for term in find_styles(text)):
        return None  # "drum and bass" is one
    readings = [read_one(part, types) for part in parts]
    found = [one for one in readings if one is not None and len(one.names) == 1]
    names = tuple(one.names[0] for one in found)
    holds = any(one.wanted is not None and not types[one.names[0]].denied() for one in found)
    if len(found) < len(parts) or len({*names}) < len(parts) or holds:
        return None
    return Reading(names, parts=tuple(Reading((name,)) for name in names))


def find_styles(text: str) -> frozenset[str]:
    """Return the genres that a text names."""
    return find_terms(text, "genre") | find_terms(text, "subgenre")


def read_one(text: str, types: Mapping[str, QuestionType]) -> Reading | None:
    """Return which type answers a question, or which list what plays; None where none does."""
    words = plain_words(text)
    for name, kind in types.items():
        if words in map(plain_words, kind.questions):
            return Reading((name,))
    asked = find_words(text)
    if asked and asked <= INSTRUMENTS and "instrument" not in words.split():
        instruments = tuple(name for name, kind in types.items() if asks_for_instrument(kind))
        return Reading(instruments) if len(instruments) >= LEAST_INSTRUMENTS else None
    fitting = {name: kind for name, kind in types.items() if asked and asked <= known_words(name, kind)}
    if " or " in f" {words} ":
        return find_choice(text, fitting)
    return (find_wanted(text, fitting) if OPEN.isdisjoint(words.split()) else None) or find_alike(text, fitting)


def find_choice(text: str, types: Mapping[str, QuestionType]) -> Reading | None:
    """Return the type of which a question names most options: "Is it rock or folk?"."""
    named = {name: len(kind.names_in(text)) for name, kind in types.items() if may_answer(text, kind)}
    return pick({name: (count, measure_likeness(text, types[name])) for name, count in named.items() if count})


def find_wanted(text: str, types: Mapping[str, QuestionType]) -> Reading | None:
    """Return the type and the option of which a question asks whether it holds: "Is it a sad song?".

    What is an option of one type ("energetic") and another word for one of a second type ("driving") is the first.
    """
    wanted = {name: kind.find_mentioned(text) for name, kind in types.items() if may_answer(text, kind)}
    scores = {
        name: (
            max(len(one.split()) for one in types[name].names_in(text)),
            (float(plain_words(option) in plain_words(text)), *measure_likeness(text, types[name])),
        )
        for name, option in wanted.items()
        if option is not None
    }
    # "Is it a sitar?" does not ask what leads, as far as its words say.
    asked = {
        name: score for name, score in scores.items()
        if score[1][1] or types[name].denied() or not find_terms(str(wanted[name]), "instruments")
    }  # fmt: skip
    found = pick(asked)
    return found and Reading(found.names, wanted[found.names[0]])


def find_alike(text: str, types: Mapping[str, QuestionType]) -> Reading | None:
    """Return the type one of whose wordings is most like a question: "What's the tempo of this track?".

    Whether there is a beat, its metre does not say.
    """
    words = plain_words(text)
    whether = bool(ASKS_WHETHER.match(words) and PRESENCE.search(words)) and OPEN.isdisjoint(words.split())
    fitting = {name: kind for name, kind in types.items() if not (whether and not kind.denied())}
    likeness = {name: measure_likeness(text, kind) for name, kind in fitting.items() if not is_existence(kind)}
    return pick({name: (0, alike) for name, alike in likeness.items() if alike[0] >= LEAST_ALIKE})


def pick(scores: Mapping[str, tuple[int, tuple[float, ...]]]) -> Reading | None:
    """Return the type with the highest score; None where two have it."""
    best = [name for name, score in scores.items() if score == max(scores.values())]
    return Reading((best[0],)) if len(best) == 1 else None


def may_answer(text: str, kind: QuestionType) -> bool:
    """Return whether a type can say that what a question asks for is absent, where it asks whether that is there.

    What leads is not all that plays.
    """
    return bool(kind.denied()) or not PRESENCE.search(plain_words(text))


def is_existence(kind: QuestionType) -> bool:
    """Return whether a type only says whether something is there."""
    return len(kind.answers) == 2 and bool(kind.denied())


def asks_for_instrument(kind: QuestionType) -> bool:
    """Return whether a type only says whether an instrument plays."""
    return is_existence(kind) and any(find_terms(option, "instruments") for option in kind.answers)


def measure_likeness(text: str, kind: QuestionType) -> tuple[float, float]:
    """Return how like a question is to a type's wordings, at best: by the words that matter, and by all."""
    return best_share(text, kind, find_words), best_share(text, kind, lambda one: {*plain_words(one).split()})


def best_share(text: str, kind: QuestionType, read: Callable[[str], Collection[str]]) -> float:
    """Return Jaccard's index of what is read of a question and of the wording that is most like it."""
    asked, wordings = set(read(text)), [set(read(wording)) for wording in kind.questions]
    return max((len(asked & one) / len(asked | one) for one in wordings if asked | one), default=0.0)


def known_words(name: str, kind: QuestionType) -> set[str]:
    """Return the words that matter of a type's name, wordings, options and their synonyms."""
    names = [one for option in kind.answers for one in (option, *kind.synonyms.get(option, ()))]
    return set().union(*map(find_words, [name.replace("_", " "), *kind.questions, *names])) - NO_TYPE


def find_words(text: str) -> set[str]:
    """Return the words of a text that matter, without endings."""
    stems = {strip_ending(word) for word in plain_words(text).split() if word not in FILLERS}
    return {SYNONYMS.get(stem, stem) for stem in stems if stem not in FILLERS}


def strip_ending(word: str) -> str:
    """Return a word without the ending of a plural, of a third person, or -ing."""
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us")):
        word = word[:-1]
    return word[:-3] if len(word) > 6 and word.endswith("ing") else word


# Words of the model


def keep_to_question(said: str, question: str, types: Mapping[str, QuestionType]) -> str:
    """Return what a model said to a question that no type reads, without what answers another question.

    A sentence that states a type's option says nothing where the question has no word of the type; where it has some,
    the sentence holds, but not that it is what was asked: its yes or no is left out. Nor does a short yes or no about
    an instrument say anything of something else.
    """
    if said != NOT_SURE and NOT_SURE in said:
        return NOT_SURE
    if MISSING.search(plain_words(question)) and not read_terms(said, "instruments")[1]:
        return NOT_SURE  # what is there, where it was asked what is not
    stated, verdict = find_types_of(said, types), VERDICT.match(said)
    rest = said[verdict.end() :] if verdict else said
    named = frozenset().union(*read_terms(rest, "instruments"))
    if not stated and not (verdict and named and len(rest.split()) <= SHORT):
        return said
    shared = set().union(*(topic_words(question, *one) for one in stated.items())) if stated else find_words(rest)
    asked = find_terms(question, "instruments")
    is_other = asked and named and not any(agrees(one, other) for one in asked for other in named)
    if is_other or not find_words(question) & shared:
        return NOT_SURE
    return capital(rest) if stated and rest else said


def find_types_of(said: str, types: Mapping[str, QuestionType]) -> dict[str, QuestionType]:
    """Return the types of which an answer states an option in the type's words."""
    words = plain_words(said)
    return {
        name: kind for name, kind in types.items()
        if any(words == plain_words(text) for texts in kind.answers.values() for text in texts)
    }  # fmt: skip


def capital(text: str) -> str:
    """Return a text with a capital first letter."""
    return f"{text[:1].upper()}{text[1:]}"


def topic_words(question: str, name: str, kind: QuestionType) -> set[str]:
    """Return the words that show that a question is about a type: an open one names no options, any other has to."""
    named = kind.answers if OPEN.isdisjoint(plain_words(question).split()) else kind.questions
    return set().union(*map(find_words, [name.replace("_", " "), *named])) - NO_TYPE


# Decisions in words


class TypedQuestions:
    """Those of some questions that are of trained types, for a model with `decision.json`."""

    def __init__(self, listener: AnswerStream, questions: Iterable[str | None]) -> None:
        config = listener.model.decision_config
        self.types = {} if config is None else config.types()
        found = {text: read_question(text, self.types) for text in questions if text is not None}
        self.readings = {text: reading for text, reading in found.items() if reading is not None}
        names = dict.fromkeys(name for reading in self.readings.values() for name in reading.names)
        asked = {name: as_choice(self.types[name]) for name in names}
        self.decider = TrackDecider(listener.model, listener.processor, asked) if asked else None

    def decide(self, windows: Sequence[Window]) -> dict[str, dict[str, Any]]:
        """Return the fields of a `TrackAnswer` by question, as they are decided about the windows of a track."""
        if self.decider is None:
            return {}
        answers = self.decider.decide(map(as_span, windows))
        rest = {
            "windows": len(self.decider.heard), "of": len(windows), "start_s": windows[0].start_s,
            "end_s": windows[-1].end_s,
        }  # fmt: skip
        return {text: rest | self._state(reading, answers) for text, reading in self.readings.items()}

    def revise(self, question: str | None, said: str) -> str:
        """Return what the model said to a question, as far as it answers that one; a caption as it is."""
        return said if question is None or not self.types else keep_to_question(said, question, self.types)

    def _state(self, reading: Reading, answers: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        decided = state_reading(reading, answers, self.types)
        heard = answers[reading.names[0]]["heard"]
        confidence = decided["probability"] or 0.0
        return {"prediction": decided["text"], "decided": decided, "heard": heard, "confidence": confidence}


def as_choice(kind: QuestionType) -> dict[str, Any]:
    """Return the question of a type, among all its options, as System One's."""
    return {"type": "choice", "instructions": kind.questions[0], "criteria": dict.fromkeys(kind.answers)}


def state_reading(
    reading: Reading, answers: Mapping[str, dict[str, Any]], types: Mapping[str, QuestionType]
) -> dict[str, Any]:
    """Return a decided answer: its text, probability (None where no music is heard), whether it is sure, and
    `probabilities`: of each option, or of each instrument that it is heard.
    """
    first = reading.names[0]
    if reason := answers[first].get("reason"):
        return {"text": REASONS[reason].capitalize(), "probability": None, "sure": False, "probabilities": {}}
    if reading.parts:
        return state_parts([state_reading(part, answers, types) for part in reading.parts])
    if len(reading.names) > 1:
        return state_instruments({name: answers[name] for name in reading.names}, types)
    if reading.wanted is not None:
        return state_verdict(answers[first], types[first], reading.wanted)
    option, probability = state(answers[first])
    text, sure = types[first].answers[option][0], bool(answers[first]["sure"])
    return as_decided(text, probability, sure, answers[first]["probabilities"])


def state_verdict(answer: Mapping[str, Any], kind: QuestionType, wanted: str) -> dict[str, Any]:
    """State whether the wanted option of a type holds; if not, with the option that does, where that is sure.

    The probability is that of all that is stated.
    """
    shares = dict(answer["probabilities"])
    best = max(shares, key=shares.__getitem__)
    yes, contradicted = shares[wanted], bool(answer.get("contradicts")) and not answer["sure"]
    if yes < 0.5 and not (best != wanted and answer["sure"]):
        return as_decided("No.", 1 - yes, 1 - yes >= kind.threshold and not contradicted, shares)
    stated, verdict = (wanted, "Yes") if yes >= 0.5 else (best, "No")
    sentence = re.sub(r"^(?:yes|no), ", "", kind.answers[stated][0], flags=re.IGNORECASE)
    sentence = sentence if sentence.startswith("I ") else sentence[:1].lower() + sentence[1:]
    sure = shares[stated] >= kind.threshold and not contradicted
    return as_decided(f"{verdict}, {sentence}", shares[stated], sure, shares)


def state_parts(decided: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """State the answers to the parts of a question one after another, with the probability of the least likely.

    Those that are not sure say so; it is sure where all are. `probabilities` has each part's likeliest option.
    """
    best = [max(one["probabilities"], key=one["probabilities"].__getitem__) for one in decided]
    shares = {option: one["probabilities"][option] for option, one in zip(best, decided, strict=True)}
    text = " ".join(
        f"{DOUBT if not one['sure'] else ''}{capital(VERDICT.sub('', one['text'].removeprefix(DOUBT)))}"
        for one in decided
    )
    probability, sure = min(one["probability"] for one in decided), all(one["sure"] for one in decided)
    return {"text": text, "probability": probability, "sure": sure, "probabilities": shares}


def state_instruments(
    answers: Mapping[str, Mapping[str, Any]], types: Mapping[str, QuestionType]
) -> dict[str, Any]:
    """State which instruments are heard, the likeliest first, with the probability of the least likely."""
    shares: dict[str, float] = {}
    sure: set[str] = set()
    for name, answer in answers.items():
        option = next(one for one in types[name].answers if one not in types[name].denied())
        shares[option] = answer["probabilities"][option]
        sure |= {option} if answer["sure"] else set()
    ordered = dict(sorted(shares.items(), key=lambda pair: -pair[1]))
    heard = [option for option, share in ordered.items() if share >= 0.5 and option in sure]
    named = heard or list(ordered)[:1]
    (text,) = state_list(named, "is heard", "are heard")
    return as_decided(text, ordered[named[-1]], bool(heard), ordered)


def as_decided(text: str, probability: float, sure: bool, shares: Mapping[str, float]) -> dict[str, Any]:
    """Return a decided answer, whose text says where it is not sure."""
    shown = text if sure else f"{DOUBT}{text[:-1]}?"
    rounded = {option: round(share, 4) for option, share in shares.items()}
    return {"text": shown, "probability": round(probability, 4), "sure": sure, "probabilities": rounded}
