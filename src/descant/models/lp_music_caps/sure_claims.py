"""Leaves out of long answers what the model is not sure of, and says in other words what it is sure of.

What a text claims (genres, instruments, moods, tempi, metres, drums, bass, singing) is read by the claim reader of
`terms`. How likely each claim is, linear probes on the audio embeddings say, which are there once the answer is: no
second pass of the language model. This file lies in the folder of every question-answering model, byte for byte the
same.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np
import torch
from transformers import PreTrainedModel

from .answer_tree import pool_states
from .terms import KNOWN, Claims, confirmed, normalise, read_claims, surface_forms, unite_voices
from .track_music import NOT_SURE, join_words, state_list

CLIPS_KEPT = 64
OPENING = re.compile(r"(?:Yes|No), (?=\w)")  # of an answer to a question of yes or no

# Sentences and their parts

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=\S)")
HEADS = r"piece|song|track|recording|instrumental|tune|clip|rhythm|band|groove|work"
NO_ADJECTIVES = r"(?!(?:and|or|of|in|with|is|are|at|as|for|to|on|over|from)\b)"
SUBJECT = r"(?:(?:all in all|below them|here|in front|in the foreground),? )?"
NOUNS = r"(?:the|an?|its|this|that|it|there|you|one|drums|nobody|listeners|somebody|someone)\b"
VERBS = (
    r"(?:is|are|has|have|plays?|takes?|carr(?:y|ies)|leads?|moves?|sounds?|feels?|consists?|comes?|marks?|keeps?|holds?|"
    r"lies|belongs?|would|could|can|will|goes|suits?|sings?|features?|does|hears?|works?|fits?|lets?|makes?|brings?)\b"
)
CLAUSE = re.compile(rf"(?:{SUBJECT}{NOUNS}[^,;:]*?\b{VERBS}|there\b)", re.IGNORECASE)
VERB = re.compile(rf"\b{VERBS}", re.IGNORECASE)
ADDITION = re.compile(
    r"(?:which|who|with|accompanied|backed|supported|led|played|driven|joined|followed|more precisely|only|though|"
    r"although|because|while|since|so|an? [a-z-]+ of|the style)\b",
    re.IGNORECASE,
)
BOUNDARY = re.compile(r"(?P<mark>[;:]|,) (?:(?P<word>and|but) )?|(?P<bare> and )")
# A phrase at the end of a clause, which is whole without it unless its last word asks for more.
TAIL = re.compile(
    r" (?:in the style of|over the sound of|over|above chords of|above|from the world of|played as|at an?|in) [^,;:]+$"
)
NEEDY = re.compile(
    r"\b(?:is|are|was|be|has|have|the|an?|its|of|to|as|in|at|on|and|or|with|over|by|from|for|only|plays?|takes?|moves?|"
    r"comes?|lies|consists?|belongs?|sounds?|feels?|looks?|goes|hears?|features?|listening|[a-z]+ed|heard|sung|led)$",
    re.IGNORECASE,
)

# What shows that a text was cut: each finds a fault.
FAULTS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?i)\b(?:and|or|but|with|by|of|the|an?|in|at|to|from|for|as|is|are|over|above|than|its)\s*[.!?;:,]",
        r"(?i)\b(and|or|but|with|the|an?|of|is|are)\s+\1\b",
        r"\band,? and\b|[,;:]\s*[,;:.!?]|\s[,;:.!?]",
        r"\b[Aa] (?!eu|one|once)[aeio]\w|\b[Aa]n [bcdfgjklmnpqrstvwxyz]\w",
        r"^[^A-Z0-9\"(]|(?<=[.!?]) [a-z]|[^.!?\"')]$",
    )
)


def find_faults(text: str) -> list[str]:
    """Return what shows that a text is no row of whole sentences, nothing where all is well.

    It must begin with a capital, each sentence must have two words and an end mark, and there must be no conjunction,
    article or preposition in front of one, no doubled word or mark, no empty list, and no article of the other form.
    """
    faults = [found[0].strip() for pattern in FAULTS if (found := pattern.search(text))]
    return faults + [one for one in split_sentences(text) if len(one.split()) < 2] if text else ["nothing"]


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text."""
    return SENTENCE_END.split(text.strip()) if text.strip() else []


def is_sure(text: str, sure: Claims) -> bool:
    """Return whether all claims of a text are among the sure ones, as far as their categories are decided."""
    claims = read_part(text)
    return all(claims[name] == confirmed(claims[name], terms) for name, terms in sure.items())


read_part = lru_cache(maxsize=4096)(read_claims)  # the same parts come again and again


def shorten(sentence: str, sure: Claims) -> list[str]:
    """Return what is left of a sentence without its unsure claims, as whole sentences; nothing where nothing can be.

    Clauses become sentences, and what is unsure leaves them by one of three rules: items of a list, adjectives before
    a noun such as "song", and phrases at the end that no verb needs. A clause that is unsure still is left out, and
    with it what hangs on it.
    """
    body, mark = (sentence[:-1], sentence[-1]) if sentence[-1:] in ".!?" else (sentence, "")
    if not mark:  # the model was cut off in the middle of it
        return []
    kept: list[str] = []
    whole = True  # whether the clause that an addition hangs on is kept
    for kind, part in split_parts(body):
        short = shorten_part(part, sure)
        if kind == "clause":
            whole = short is not None
            kept += [short] if short is not None else []
        elif whole and short is not None:
            kept[-1] += short
    return [f"{capital(one)}{mark}" for one in kept]


def split_parts(body: str) -> Iterator[tuple[str, str]]:
    """Yield the parts of a sentence: clauses that can stand alone, and additions to the clause before them.

    An addition begins with its mark.
    """
    start, kind, lists = 0, "clause", [match.span() for match in find_lists(body)]
    for match in BOUNDARY.finditer(body):
        rest = body[match.end() :]
        if any(first <= match.start() < last for first, last in lists) or not VERB.search(body[start : match.start()]):
            continue
        bare = match["bare"] is not None
        if CLAUSE.match(rest):
            following = "clause"
        elif bare and body.startswith("It ") and re.match(VERBS, rest):
            following = "predicate"
        elif match["mark"] == ":" or (not bare and not match["word"] and ADDITION.match(rest)):
            following = "addition"
        else:
            continue
        yield _as_part(kind, body[start : match.start()])
        start, kind = match.start() if following == "addition" else match.end(), following
    yield _as_part(kind, body[start:])


def _as_part(kind: str, text: str) -> tuple[str, str]:
    return ("clause", f"It {text}") if kind == "predicate" else (kind, text)


def shorten_part(part: str, sure: Claims) -> str | None:
    """Return a clause or an addition without its unsure claims; None where it cannot be without them."""
    for rule in (drop_adjectives, drop_items, drop_tails):
        if is_sure(part, sure):
            break
        part = rule(part, sure)
    return part if is_sure(part, sure) else None


def drop_adjectives(part: str, sure: Claims) -> str:
    """Leave out unsure genres, moods and tempi in front of a noun such as "song", and mend the article."""

    def mend(match: re.Match[str]) -> str:
        if is_sure(match["term"], sure):
            return match[0]
        article = match["article"]
        if article is None:
            return " " if match["comma"] else ""
        return with_article(part[match.end() :], article[0])

    for _ in range(3):  # "a sad, fast blues song"
        part = adjective_pattern().sub(mend, part)
    return part


@cache
def adjective_pattern() -> re.Pattern[str]:
    """Return what matches a genre, mood or tempo in front of a noun, with its article."""
    kinds = ("genre", "subgenre", "mood", "tempo_class")
    return re.compile(
        rf"(?:\b(?P<article>[Aa]n?) |(?P<comma>, )|\b)(?P<term>{wordings(kinds)})(?:-paced)?(?:,? )"
        rf"(?=(?:{NO_ADJECTIVES}[\w-]+,? ){{0,3}}(?:{HEADS})\b)",
        re.IGNORECASE,
    )


@cache
def wordings(kinds: tuple[str, ...]) -> str:
    """Return a pattern of all wordings of some types, the longest first, hyphens or spaces between their words."""
    forms = sorted({form for kind in kinds for form in surface_forms(kind)}, key=len, reverse=True)
    return "|".join(re.escape(form).replace(r"\ ", "[ -]") for form in forms if form not in ("yes", "no"))


def drop_items(part: str, sure: Claims) -> str:
    """Leave unsure items out of lists of instruments; one that would be empty stays as it is.

    In front of a verb there must be several left, or one in the plural.
    """
    for match in reversed(list(find_lists(part))):
        items = re.split(r", (?:and |or )?| and | or ", match[0])
        kept = [item for item in items if is_sure(item, sure)]
        ends = re.match(r"\s*(?:[.,;:]|$)", part[match.end() :])
        if kept and len(kept) < len(items) and (ends or len(kept) > 1 or re.search("[^s]s$", kept[0])):
            listed = join_words(kept)
            part = part[: match.start()] + (listed if match.start() else capital(listed)) + part[match.end() :]
    return part


def find_lists(text: str) -> Iterator[re.Match[str]]:
    """Yield the lists of instruments in a text."""
    return list_pattern().finditer(text)


@cache
def list_pattern() -> re.Pattern[str]:
    """Return what matches two instruments and more with commas and a conjunction."""
    names = wordings(("instruments", "lead_instrument", "drums", "bass"))
    item = rf"(?:(?:an?|the) )?\b(?:{names})(?:e?s)?\b"
    return re.compile(rf"{item}(?:, {item})*,? (?:and|or) {item}", re.IGNORECASE)


def drop_tails(part: str, sure: Claims) -> str:
    """Leave out the phrase at the end of a clause where it holds what is unsure, and no verb asks for it."""
    for _ in range(2):
        match = TAIL.search(part)
        if match and not is_sure(match[0], sure) and not NEEDY.search(part[: match.start()]):
            part = part[: match.start()]
    return part


def capital(text: str) -> str:
    """Return a text that begins with a capital."""
    return text[:1].upper() + text[1:]


def with_article(following: str, first: str) -> str:
    """Return the article, with its `first` letter, that the following words need."""
    return f"{first}n " if following[:1].lower() in "aeio" else f"{first} "


def leave_out(text: str, sure: Claims, sentences: Mapping[str, Mapping[str, str]]) -> str:
    """Return a text without claims that are not sure.

    sure: the sure terms of each category that is decided. sentences: category → term → a sentence that states it.
    What is sure of a category that the text named, and no longer does, is stated in sentences of the training answers.
    Sentences with faults are left out as well, unless all have them: then that is how the model writes.
    """
    sentences_said = split_sentences(text)
    faulty = [one for one in sentences_said if find_faults(one)]
    faulty = faulty if len(faulty) < len(sentences_said) else []
    if is_sure(text, sure) and not faulty:
        return text
    pieces: list[tuple[list[str], Claims]] = []
    for sentence in sentences_said:
        same = is_sure(sentence, sure) and sentence not in faulty
        pieces.append(([sentence] if same else _without_faults(shorten(sentence, sure)), read_claims(sentence)))
    said = read_claims(" ".join(one for kept, _ in pieces for one in kept))
    stated: list[str] = []
    for kept, before in pieces:
        stated += kept
        for name in [name for name in sure if before[name] - confirmed(before[name], said[name])]:
            more = list(state_sure(name, sure[name] - confirmed(sure[name], said[name]), sentences))
            stated += more
            said = read_claims(" ".join([*stated, *(one for kept, _ in pieces for one in kept)]))
    return " ".join(stated) or NOT_SURE


def _without_faults(sentences: Sequence[str]) -> list[str]:
    return [one for one in sentences if not find_faults(one)]


def state_sure(category: str, terms: frozenset[str], sentences: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield sentences that state sure terms of a category."""
    if category == "instruments":
        yield from state_list(sorted(terms), "is heard", "are heard")
    terms = terms - {"vocals"} if terms & {"female", "male"} else terms  # who sings says that somebody does
    known = sentences.get(category, {})
    yield from dict.fromkeys(known[term] for term in sorted(terms) if term in known)


def pick_sentences(kind: str, answers: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return for each option of a type a sentence of the training answers that states it and claims nothing else.

    answers: option → sentences. One that begins with "it" is taken where there is no other: in a text it would stand
    for the sentence before.
    """
    category = next(name for name, kinds in KNOWN.items() if kind in kinds)
    picked = {}
    for option, stated in answers.items():
        texts = sorted((capital(OPENING.sub("", text)) for text in stated), key=lambda text: text.startswith("It "))
        for text in texts:
            claimed = {name: terms for name, terms in read_claims(text).items() if terms}
            if set(claimed) == {category} and option in claimed[category] and not find_faults(text):
                picked[option] = text
                break
    return picked


# What is sure of a clip


@dataclass
class SureClaims:
    """What long answers may claim, fitted on training and validation rows: the field `claims` of `decision.json`.

    probes: type of question → option → a weight of each pooled audio state (`pool_states`), then a constant: its
        log-probability, up to one constant for all options of a type. Types of `listed` have several right answers,
        and what a probe gives there is the log-odds that the option is one of them.
    thresholds: type → the least probability of a claim that may be made.
    sentences: type → option → a sentence that states it.
    questions: wordings of questions that have long answers. closed: those of all others.
    precision: the share of right claims for which the thresholds were fitted.
    """

    probes: dict[str, dict[str, list[float]]]
    thresholds: dict[str, float]
    listed: list[str] = field(default_factory=list)
    sentences: dict[str, dict[str, str]] = field(default_factory=dict)
    questions: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    precision: float = 0.9

    def __post_init__(self) -> None:
        self._weights = {kind: np.array(list(probe.values())) for kind, probe in self.probes.items()}
        self._long, self._closed = set(map(normalise, self.questions)), set(map(normalise, self.closed))
        self.by_category = {
            name: {option: text for kind in kinds for option, text in self.sentences.get(kind, {}).items()}
            for name, kinds in KNOWN.items()
        }

    def measure(self, states: np.ndarray) -> dict[str, np.ndarray]:
        """Return the probability of each option, by type, from pooled audio states (features,).

        Raises ValueError where the probes are of other states.
        """
        found = {}
        for kind, weights in self._weights.items():
            if weights.shape[1] != len(states) + 1:
                raise ValueError(
                    f"decision.json has {weights.shape[1]} numbers for {len(states)} audio states and a constant: its "
                    "claims were fitted for another model, fit it again"
                )
            scores = weights[:, :-1] @ states + weights[:, -1]
            total = np.logaddexp(scores, 0.0) if kind in self.listed else np.logaddexp.reduce(scores)
            found[kind] = np.exp(scores - total)
        return found

    def find_sure(self, states: np.ndarray) -> Claims:
        """Return the terms of each decided category that may be claimed of a clip."""
        found = self.measure(states)
        sure: dict[str, set[str]] = {}
        for name, kinds in KNOWN.items():
            for kind in (kind for kind in kinds if kind in found):
                likely = found[kind] >= self.thresholds[kind]
                if kind not in self.listed:
                    likely &= found[kind] == found[kind].max()
                options = zip(self.probes[kind], likely, strict=True)
                sure.setdefault(name, set()).update(option for option, enough in options if enough)
        if "voices" in sure:
            sure["voices"] = set(unite_voices(sure["voices"]))
        return {name: frozenset(terms) for name, terms in sure.items()}

    def is_long(self, question: str | None, answer: str) -> bool:
        """Return whether an answer is a long one: a caption, the answer to such a question, or several sentences."""
        if question is None or normalise(question) in self._long:
            return True
        return normalise(question) not in self._closed and len(split_sentences(answer)) > 1


class SureAnswers:
    """Leaves unsure claims out of the long answers of one model."""

    def __init__(self, model: PreTrainedModel, claims: SureClaims) -> None:
        self.model, self.claims = model, claims
        self.known: OrderedDict[bytes, Claims] = OrderedDict()  # by the hash of each clip that was asked about last

    @classmethod
    def of(cls, model: PreTrainedModel) -> "SureAnswers | None":
        """Return what does so for a model; None where nothing was fitted for it."""
        config = model.decision_config
        return cls(model, SureClaims(**config.claims)) if config is not None and config.claims else None

    def revise(self, text: str, question: str | None, features: torch.Tensor) -> str:
        """Return an answer without its unsure claims; one that is not long stays as it is.

        features: the clip's input features or states, without an axis for the batch.
        """
        if not self.claims.is_long(question, text):
            return text
        return leave_out(text, self.find_sure(features), self.claims.by_category)

    @torch.no_grad()
    def find_sure(self, features: torch.Tensor) -> Claims:
        """Return the terms that may be claimed of a clip, which is encoded once for all questions about it."""
        # Not by a name: those who ask have one name for many sounds, and controls other sounds under a clip's name.
        key = hashlib.sha256(features.cpu().contiguous().view(torch.uint8).numpy().tobytes()).digest()
        if key not in self.known:
            embeds = self.model.get_audio_features(features[None].to(self.model.device))
            self.known[key] = self.claims.find_sure(pool_states(embeds)[0].cpu().numpy())
            while len(self.known) > CLIPS_KEPT:
                self.known.popitem(last=False)
        return self.known[key]


__all__ = ["SureAnswers", "SureClaims", "find_faults", "leave_out", "pick_sentences"]
