"""What a text says in the terms of the field: genres, instruments, moods, tempi that it names, and what it denies.

The terms themselves are the tables at the end. This file lies in the folder of every question-answering model, byte
for byte the same.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache

# No term reaches over these: "bass, drums" are two instruments, not a bass drum.
PAUSE = re.compile(r"[,;:!?()\n]|\.(?!\d)|(?<!\d)/|/(?!\d)|\s[-–—]\s")
DROPPED = {"a", "an", "the", "any"}
NEGATIONS = {"no", "without", "not", "isnt", "neither", "nor", "never", "lacks", "lacking"}
# "No vocals or drums" denies both, of whatever types they are; further words may qualify them.
DENIED_TOGETHER = re.compile(
    rf"\b(?:{'|'.join(sorted(NEGATIONS))})(?:(?: (?!n?or\b)[\w/&#.-]+){{1,2}} n?or(?= )(?! no\b))+"
)
# "Yes" and "no" answer only where they open the answer alone: "drums with no fills" are drums.
BARE_ANSWERS = {word: rf"\A{word}(?= \||\Z)" for word in ("yes", "no")}


def normalise(text: str) -> str:
    """Lower case without accents, apostrophes, punctuation, articles or "any"; hyphens are spaces, 4/4 and r&b stay.

    As in the scorer of SQuAD (Rajpurkar et al. 2016), with hyphens read as spaces.
    """
    text = unicodedata.normalize("NFKD", text.casefold())
    text = re.sub(r"['’`]|[\u0300-\u036f]", "", text)
    text = re.sub(r"(?<!\d)/|/(?!\d)|[^\w/&#.]|_|\.(?!\d)", " ", text)
    return " ".join(word for word in text.split() if word not in DROPPED)


@cache
def surface_forms(question_type: str) -> dict[str, str]:
    """Map every normalised wording of a question type to its canonical answer."""
    forms: dict[str, str] = {}
    for table in TABLES:
        terms = table.get(question_type, {})
        if isinstance(terms, str):
            forms.update(surface_forms(terms))
            continue
        for canonical, synonyms in terms.items():
            forms.update(dict.fromkeys(map(normalise, [canonical, *synonyms]), canonical))
    return {wording: forms[normalise(canonical)] for wording, canonical in forms.items()}


@cache
def term_pattern(question_type: str) -> re.Pattern[str] | None:
    """Return what matches a whole wording of the type, the longest one first, also in the plural."""
    forms = sorted(surface_forms(question_type), key=len, reverse=True)
    wordings = "|".join(BARE_ANSWERS.get(form, re.escape(form)) for form in forms)
    return re.compile(rf"(?<![\w/])({wordings})(?:e?s)?(?![\w/])") if forms else None


def denies(gap: str, previous_denied: bool) -> bool:
    """Return whether the words between the last term and this one deny it: "no drums", "without drums or bass"."""
    words = gap.split()
    if words in (["or"], ["nor"]):
        return previous_denied
    return bool(words) and words[-1] in NEGATIONS


def read_terms(text: str, question_type: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the canonical answers of a question type that a text names, and those that it denies."""
    return read_wordings(text, term_pattern(question_type), surface_forms(question_type))


def read_wordings(
    text: str, pattern: re.Pattern[str] | None, forms: Mapping[str, str]
) -> tuple[frozenset[str], frozenset[str]]:
    """Return what the wordings of a text stand for, and what those stand for that it denies.

    pattern: matches a normalised wording as its first group; forms: wording → what it stands for.
    """
    end, denied = 0, False
    named: dict[bool, set[str]] = {False: set(), True: set()}
    text = mark_pauses(text)
    for match in pattern.finditer(text) if pattern else ():
        denied, end = denies(text[end : match.start()], denied), match.end()
        named[denied].add(forms[match[1]])
    return frozenset(named[False]), frozenset(named[True])


@lru_cache(maxsize=1024)  # a text is read for the terms of one type after another
def mark_pauses(text: str) -> str:
    """Normalise a text, a bar in the place of each pause; "no vocals or drums" becomes "no vocals or no drums"."""
    marked = " | ".join(map(normalise, PAUSE.split(text)))
    return DENIED_TOGETHER.sub(lambda found: re.sub(r" n?or\b", " or no", found[0]), marked)


def find_terms(text: str, question_type: str) -> frozenset[str]:
    """Return the canonical answers of a question type that a text names, without what it denies."""
    return read_terms(text, question_type)[0]


# What captions claim

CATEGORIES = {
    "instruments": ("instruments",),
    "genres": ("genre", "subgenre"),
    "moods": ("mood",),
    "tempi": ("tempo_class",),
}
Claims = dict[str, frozenset[str]]


def find_claims(text: str) -> Claims:
    """Return the terms that a text names, by category."""
    return {name: frozenset().union(*(find_terms(text, kind) for kind in kinds)) for name, kinds in CATEGORIES.items()}


def agrees(term: str, other: str) -> bool:
    """Return whether two terms are equal or one names a kind of the other."""
    return term == other or term.endswith(f" {other}") or other.endswith(f" {term}")


def confirmed(terms: Iterable[str], by: Iterable[str]) -> set[str]:
    """Return the terms that agree with one of the others; "no drums" is no kind of drums."""
    others = list(by)
    return {term for term in terms if any(agrees(term, other) and _denied(term) == _denied(other) for other in others)}


def _denied(term: str) -> bool:
    return term.startswith("no ")


# What closed questions know of a clip and texts claim: category → types of question.
KNOWN = {**CATEGORIES, "metres": ("metre",), "drums": ("drums",), "basses": ("bass",), "voices": ("vocals", "voice")}
APART = ("bass", "drums", "vocals")  # instruments with a category of their own


def read_claims(text: str) -> Claims:
    """Return the terms of every category of `KNOWN` that a text names; a denied drum kit claims "no drums"."""
    claims = {
        name: frozenset[str]().union(*(find_terms(text, kind) for kind in kinds)) for name, kinds in KNOWN.items()
    }
    if "drums" in read_terms(text, "drums")[1]:
        claims["drums"] |= {"no drums"}
    claims["instruments"] -= confirmed(claims["instruments"], APART)
    claims["voices"] = unite_voices(claims["voices"])
    return claims


def unite_voices(terms: Iterable[str]) -> frozenset[str]:
    """Return terms of singing in one form: no voice is no vocals, and who sings is vocals.

    "Nobody sings" names both.
    """
    united = {"no vocals" if term == "no voice" else term for term in terms}
    if united & {"female", "male"}:
        return frozenset((united | {"vocals"}) - {"no vocals"})
    return frozenset(united - {"vocals"} if "no vocals" in united else united)


# The terms of closed questions with their synonyms: question type → canonical answer → other wordings of it

# Of published data sets; a name of another type in place of terms stands for that type's.
COMMON: dict[str, dict[str, list[str]] | str] = {
    "genre": {
        "rock": ["rock music", "rock and roll", "rock n roll", "heavy metal"], "pop": ["pop music"], "jazz": ["jazzy"],
        "classical": ["classical music", "orchestral music"],
        "electronic": ["electronic music", "electronica", "edm", "electronic dance music"],
        "hip hop": ["rap", "hiphop"], "country": ["country music"], "folk": ["folk music", "folksy"],
        "blues": ["bluesy"], "reggae": [], "r&b": ["rnb", "rhythm and blues", "r and b"], "funk": ["funky"],
        "latin": ["latin music"], "ambient": ["ambient music"], "gospel": ["gospel music"], "opera": ["operatic"],
        "new age": [], "soundtrack": ["film music", "movie soundtrack"], "world": ["world music"],
        "march": ["marching music"], "christmas": ["christmas music", "christmas carol"], "lullaby": [],
        "metal": ["metal music"], "soul": ["soul music"], "ballroom": ["ballroom dance", "ballroom music"],
    },
    "classical": {
        "classical": ["yes", "classical music"], "not classical": ["no", "not classical music", "no classical music"],
    },
    "subgenre": {
        "heavy metal": ["metal"], "soul": ["soul music"], "disco": [], "punk": ["punk rock"],
        "house": ["house music"], "techno": [], "trance": [], "dubstep": [], "trap": [], "bluegrass": [], "ska": [],
        "salsa": [], "tango": [], "samba": [], "swing": [], "grunge": [], "flamenco": [], "polka": [], "ragtime": [],
        "drum and bass": ["drum n bass", "dnb", "d&b"], "bossa nova": ["bossanova"], "indie rock": [],
        "soft rock": [], "pop rock": [], "alternative rock": ["alt rock"], "hard rock": [], "boogie woogie": [],
        "synth-pop": ["synthpop"], "lo-fi": ["lofi", "lo-fi hip hop"], "afrobeat": [],
    },
    "tempo_class": {
        "slow": ["slow tempo", "slow paced", "slowly", "very slow", "down tempo", "downtempo"],
        "medium": [
            "medium tempo", "mid tempo", "midtempo", "moderate", "moderate tempo", "moderately paced", "medium paced",
            "andante",
        ],
        "fast": ["fast tempo", "fast paced", "uptempo", "up tempo", "very fast", "quick", "rapid"],
    },
    "instruments": {
        "piano": ["grand piano", "acoustic piano", "upright piano"],
        "electric piano": ["rhodes", "e-piano", "wurlitzer"], "keyboard": ["keys"],
        "organ": ["hammond organ", "church organ", "pipe organ", "electric organ"], "harpsichord": [],
        "accordion": [], "synthesizer": ["synth", "synthesiser", "synth pad", "synth lead", "synth keys"],
        "guitar": [],
        "acoustic guitar": [
            "nylon guitar", "nylon string guitar", "steel string guitar", "classical guitar",
            "strummed acoustic guitar",
        ],
        "electric guitar": [
            "e-guitar", "distorted guitar", "distorted electric guitar", "overdriven guitar", "clean electric guitar",
        ],
        "bass": ["bass guitar", "e-bass", "electric bass", "bass line", "bassline"],
        "double bass": ["upright bass", "acoustic bass", "contrabass"], "synth bass": ["bass synth"],
        "drums": ["drum", "drum kit", "drum set", "drumset", "acoustic drums", "percussive drums", "drum beat"],
        "electronic drums": ["drum machine", "digital drums", "programmed drums", "808", "electronic drum"],
        "percussion": ["percussive elements", "hand percussion"], "congas": ["conga"], "bongos": ["bongo"],
        "tambourine": [], "shaker": ["maracas"], "djembe": [], "tabla": [], "cajon": [], "hi-hat": ["hihat"],
        "snare": ["snare drum"], "kick": ["kick drum", "bass drum"], "cymbal": ["crash cymbal", "ride cymbal"],
        "claps": ["hand claps", "handclaps", "clapping"], "timpani": ["kettledrums"], "cowbell": [], "triangle": [],
        "strings": ["string section", "string ensemble", "orchestral strings"], "violin": ["fiddle"], "viola": [],
        "cello": [], "harp": [], "brass": ["brass section", "horns", "horn section"], "trumpet": [], "trombone": [],
        "french horn": [], "tuba": [],
        "saxophone": ["sax", "alto sax", "tenor sax", "alto saxophone", "tenor saxophone", "soprano sax"],
        "flute": ["flutes"], "clarinet": [], "oboe": [], "bassoon": [], "recorder": [],
        "pan flute": ["panpipes", "pan pipes"], "bagpipes": ["bagpipe"], "harmonica": ["mouth organ"],
        "woodwinds": ["woodwind", "woodwind section"], "orchestra": ["orchestral"],
        "choir": ["choral", "chorus vocals"], "banjo": [], "mandolin": [], "ukulele": ["uke"], "sitar": [],
        "koto": [], "shamisen": [], "erhu": [], "oud": [], "bouzouki": [], "balalaika": [], "lute": [],
        "steel drums": ["steel pan", "steelpan", "steel drum"], "marimba": [], "xylophone": [],
        "vibraphone": ["vibes"], "glockenspiel": [], "celesta": [], "music box": [],
        "bells": ["bell", "tubular bells", "sleigh bells"], "didgeridoo": [], "theremin": [],
        "turntables": ["turntable", "scratching", "dj scratches"], "sampler": [],
        "vocals": [
            "vocal", "voice", "voices", "singing", "singer", "vocalist", "male vocal", "female vocal", "male voice",
            "female voice", "male singer", "female singer",
        ],
    },
    "lead_instrument": "instruments",
    "drums": {
        "drums": ["yes", "drum beat", "drum set", "drum machine"], "no drums": ["no"],
    },
    "bass": {
        "no bass": ["no"], "electric bass": ["e-bass"], "upright bass": ["contrabass"], "synth bass": ["bass synth"],
    },
    "mood": {
        "happy": ["cheerful", "joyful", "joyous", "upbeat", "merry", "glad"],
        "sad": ["sorrowful", "melancholic", "melancholy", "mournful", "gloomy"],
        "calm": ["relaxing", "relaxed", "peaceful", "soothing", "calming", "tranquil", "serene", "chill", "mellow"],
        "energetic": ["lively", "high energy", "full of energy", "vigorous"], "romantic": ["loving"],
        "dark": ["ominous", "sinister", "eerie", "spooky", "haunting"],
        "tense": ["suspenseful", "tension", "anxious", "nervous"], "aggressive": ["angry", "intense"],
        "dreamy": ["ethereal", "atmospheric"], "epic": ["majestic", "heroic"],
        "playful": ["fun", "funny", "whimsical", "quirky"], "passionate": [], "emotional": ["sentimental"],
        "nostalgic": ["vintage"], "groovy": ["danceable"], "sensual": ["sexy", "seductive"],
        "inspiring": ["uplifting", "hopeful", "motivational"], "meditative": ["spiritual", "contemplative"],
        "mysterious": [], "soulful": [],
    },
    "metre": {
        "4/4": ["four four", "common time", "four quarter", "four beats", "quadruple"],
        "3/4": ["three four", "waltz time", "three quarter", "three beats", "triple", "triple metre", "triple meter"],
        "6/8": ["six eight"], "2/4": ["two four", "two beats", "duple"], "12/8": ["twelve eight"],
        "5/4": ["five four", "five beats"], "7/8": ["seven eight"],
    },
    "energy": {
        "calm": ["low energy", "gentle", "relaxed"], "moderate": ["medium energy"],
        "driving": ["high energy", "energetic", "powerful"],
    },
    "vocals": {
        "vocals": ["yes", "singer", "singing", "sing", "voice", "human voice", "sung", "vocalist"],
        "no vocals": ["no", "no singer", "no singing", "no voice", "no human voice", "without singing", "instrumental",
                      "nobody"],
    },
    "voice": {
        "female": ["woman", "women", "female voice", "female singer", "female vocals", "female vocalist", "woman sing",
                   "woman singing", "soprano"],
        "male": ["man", "men", "male voice", "male singer", "male vocals", "male vocalist", "man sing", "man singing",
                 "tenor"],
        "no voice": ["nobody", "no one", "no singer", "no vocals", "instrumental", "none"],
    },
    "electronic": {
        "electronic": ["synthetic", "electronically", "electronic music"],
        "acoustic": ["natural", "acoustic music", "unplugged"],
    },
    "music": {"music": ["yes"], "no music": ["no"]},
    "lead_family": {
        "keyboard": ["keyboards", "piano", "keys"], "organ": ["organs"],
        "accordion": ["accordions", "free reed", "harmonica"], "bass": ["basses"],
        "mallet percussion": ["mallets", "mallet", "tuned percussion", "chromatic percussion", "vibraphone",
                              "marimba"],
        "guitar": ["guitars"], "plucked strings": ["plucked", "plucked string", "harp", "banjo"],
        "strings": ["string", "bowed strings", "bowed string", "violin", "bowed"],
        "brass": ["trumpet", "trombone", "horn"],
        "reed": ["reeds", "saxophone", "sax", "clarinet", "oboe", "woodwind", "woodwinds"],
        "flute": ["flutes", "pipe", "pipes", "whistle"],
        "synthesizer": ["synth", "synths", "synthesizers", "synth lead"], "voice": ["choir", "vocal"],
    },
    # Whether one instrument plays.
    **{
        name.replace(" ", "_"): {name: ["yes", *others], f"no {name}": ["no", *(f"no {other}" for other in others)]}
        for name, others in {
            "piano": (), "organ": (), "accordion": (), "guitar": (), "acoustic guitar": (), "electric guitar": (),
            "violin": ("fiddle",), "strings": ("string section",), "brass": ("brass section",), "trumpet": (),
            "saxophone": ("sax",), "flute": (), "clarinet": (), "synthesizer": ("synth", "synthesiser"), "harp": (),
        }.items()
    },
}  # fmt: skip

# Of the demo corpus, which renames some canonical answers.
DEMO: dict[str, dict[str, list[str]] | str] = {
    "genre": {
        "jazz": [], "blues": [], "rock": [], "country": [], "folk": [], "latin": [], "ballroom": ["ballroom dance"],
        "electronic": ["electronica"], "funk": [], "hip-hop": ["hip hop"], "march": ["marching music"], "pop": [],
    },
    "subgenre": {
        "swing": [], "jazz waltz": [], "bebop": ["be-bop"], "slow blues": [], "six-eight blues": [],
        "boogie shuffle": [], "classic rock": [], "rock waltz": [], "heavy metal": [], "country waltz": [],
        "bluegrass": [], "western swing": [], "folk rock": [], "folk waltz": [], "jig": [], "samba": [],
        "latin waltz": [], "bossa nova": [], "tango": [], "viennese waltz": [], "foxtrot": ["fox-trot"], "trance": [],
        "house": [], "techno": [], "street funk": [], "fusion funk": [], "soul": [], "boom bap": [],
        "trip hop": ["trip-hop"], "electro rap": [], "six-eight march": [], "military march": [], "dixie march": [],
        "disco": [], "pop ballad": [], "pop waltz": [],
    },
    "tempo_class": {
        "slow": ["unhurried"], "medium": ["moderate"], "fast": ["quick"],
    },
    "instruments": {
        "piano": [], "acoustic guitar": [], "electric guitar": [], "organ": [], "accordion": [],
        "strings": ["string section"], "brass": ["brass section"], "violin": ["fiddle"], "flute": [], "trumpet": [],
        "saxophone": ["sax"], "vibraphone": ["vibes"], "synthesizer": ["synth", "synthesiser"], "bass": [],
        "drums": ["drum kit"],
    },
    "lead_instrument": {
        "piano": [], "electric guitar": [], "violin": ["fiddle"], "flute": [], "trumpet": [], "saxophone": ["sax"],
        "vibraphone": ["vibes"], "synthesizer": ["synth", "synthesiser"],
    },
    "drums": {
        "drums": ["drum kit", "percussion"],
        "no drums": ["without drums", "no drum kit", "no percussion", "drumless"],
    },
    "bass": {
        "upright bass": ["double bass", "acoustic bass"], "electric bass": ["bass guitar"],
        "synth bass": ["synthesizer bass", "bass synthesizer"],
        "no bass": ["without bass", "bass is missing", "no bass line"],
    },
    "mood": {
        "sad": ["melancholic"], "peaceful": ["calm"], "mysterious": [], "cheerful": ["happy"],
        "energetic": ["exciting"],
    },
    "metre": {
        "4/4": ["four-four"], "3/4": ["three-four"], "6/8": ["six-eight"],
    },
}  # fmt: skip

TABLES = (COMMON, DEMO)  # a later one wins
