"""What the ears' own tags teach about real music, where every network that knows of a thing is sure of it.

A network's evidence for an option is its highest probability among the option's tags. It is sure of an option whose
evidence reaches the option's threshold and is `CLEAR` times that of every option that excludes it. Thresholds are not
guessed but read off clips whose truth is known: `fit_thresholds` gives each yes the evidence that 99 of 100 renderings
without the thing stay below, and each no the evidence that 90 of 100 clips with it exceed. Where nothing known has the
thing (genres of real music), `SURE` is the threshold: a tenth of what either network gives is as high.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from box_corpus.facts import Known

Tags = Mapping[str, float]
Words = Mapping[str, tuple[str, ...]]  # network → tags

SURE, CLEAR = 0.2, 1.5

GENRES: Mapping[str, Words] = {
    "classical": {"mtt": ("classical", "opera", "choral", "violin", "strings", "cello"),
                  "msd": ("instrumental", "jazz", "beautiful", "ambient")},
    "rock": {"mtt": ("rock",), "msd": ("rock", "alternative rock", "classic rock", "indie rock", "alternative")},
    "metal": {"mtt": ("metal", "rock", "loud"), "msd": ("metal", "heavy metal")},
    "pop": {"mtt": ("pop",), "msd": ("pop", "indie pop")},
    "electronic": {"mtt": ("techno", "electronic", "dance"), "msd": ("electronic", "dance", "electronica", "House")},
    "ambient": {"mtt": ("ambient", "new age"), "msd": ("ambient", "chillout", "chill")},
    "jazz": {"msd": ("jazz",)},
    "folk": {"mtt": ("guitar", "female", "harp", "flute"), "msd": ("folk",)},
    "country": {"mtt": ("country",), "msd": ("country",)},
    "hip-hop": {"mtt": ("beat", "beats", "male"), "msd": ("Hip-Hop",)},
    "blues": {"mtt": ("guitar",), "msd": ("blues",)},
    "soul": {"mtt": ("pop", "vocal", "female"), "msd": ("soul", "rnb")},
}  # fmt: skip
# Genre → styles of renderings, by their plans, that do not speak against it: a solo line may be of classical music.
STYLES = {
    "classical": ("classical", "solo"), "rock": ("rock", "rock and roll", "punk"), "metal": ("metal",),
    "electronic": ("electronic", "dance", "disco"), "ambient": ("ambient",), "folk": ("folk", "country"),
}  # fmt: skip
NOT_TOLD = ("classical", "solo", "ambient", "world")  # styles that may be called classical music
# Jazz alone has no tag in one of the networks, and the other gives it to classical music too.
NOT_JAZZ = ("classical", "opera", "violin", "strings", "choral", "cello", "ambient", "techno", "electronic", "synth")
SUNG: Words = {
    "mtt": ("vocal", "female", "male", "singing", "vocals", "woman", "male vocal", "man", "voice", "male voice",
            "female vocal", "female voice", "choir", "choral", "opera"),
    "msd": ("female vocalists", "male vocalists", "female vocalist"),
}  # fmt: skip
FEMALE: Words = {"mtt": ("female", "woman", "female vocal", "female voice"),
                 "msd": ("female vocalists", "female vocalist")}  # fmt: skip
MALE: Words = {"mtt": ("male", "man", "male vocal", "male voice"), "msd": ("male vocalists",)}
INSTRUMENTS = {
    "piano": ("piano",), "guitar": ("guitar",), "strings": ("violin", "strings", "cello"), "violin": ("violin",),
    "flute": ("flute",), "synthesizer": ("synth",), "harp": ("harp",),
}  # fmt: skip
# Music that is played on guitars: rock and metal, of which both networks are sure, have one; and where either network
# hears a little of such music, a low tag of guitars proves nothing.
PLAYED_ON_GUITARS: Words = {
    "mtt": ("rock", "metal", "country"),
    "msd": ("rock", "alternative", "indie", "alternative rock", "classic rock", "indie rock", "punk", "hard rock",
            "metal", "heavy metal", "folk", "acoustic", "country", "blues", "guitar"),
}  # fmt: skip
OPPOSITES: Mapping[str, Mapping[str, Words]] = {
    "electronic": {
        "electronic": {"mtt": ("electronic", "techno", "synth", "dance", "beats", "beat"),
                       "msd": ("electronic", "dance", "electronica", "electro", "House")},
        "acoustic": {"mtt": ("classical", "guitar", "piano", "violin", "strings", "flute", "harp", "cello", "opera",
                             "choral", "harpsichord", "sitar", "country"),
                     "msd": ("acoustic", "folk", "jazz", "country", "blues")},
    },
    "mood": {
        "peaceful": {"mtt": ("slow", "soft", "quiet", "ambient", "new age"),
                     "msd": ("chillout", "Mellow", "chill", "ambient", "beautiful", "easy listening")},
        "energetic": {"mtt": ("loud", "fast", "techno", "rock", "metal", "dance"),
                      "msd": ("rock", "metal", "dance", "party", "heavy metal", "punk", "House", "hard rock")},
    },
    "energy": {
        "calm": {"mtt": ("slow", "soft", "quiet", "ambient", "new age"),
                 "msd": ("chillout", "Mellow", "chill", "ambient", "beautiful", "acoustic")},
        "driving": {"mtt": ("loud", "fast", "techno", "rock", "metal", "dance"),
                    "msd": ("rock", "metal", "dance", "party", "heavy metal", "punk", "House", "hard rock")},
    },
    "drums": {
        "yes": {"mtt": ("drums", "beat", "beats", "techno", "rock", "metal", "dance"),
                "msd": ("rock", "metal", "dance", "electronic", "Hip-Hop", "punk", "House", "funk", "hard rock")},
        "no": {"mtt": ("classical", "piano", "ambient", "quiet", "soft", "opera", "choral", "harp", "harpsichord"),
               "msd": ("ambient", "instrumental", "jazz", "beautiful", "acoustic", "Mellow")},
    },
}  # fmt: skip


@dataclass(frozen=True)
class Threshold:
    """The evidence from which on a thing is there, and below which it is not."""

    yes: float
    no: float


def evidence(tags: Tags, wanted: Words) -> list[float]:
    """Return each network's highest probability among some tags."""
    return [max(tags[f"{network} {tag}"] for tag in names) for network, names in wanted.items()]


def fit_thresholds(clips: Iterable[Known], tags: Mapping[str, Tags]) -> dict[str, list[Threshold]]:
    """Return the thresholds of vocals and of instruments, one a network, from clips of the generator."""
    known = [one for one in clips if one.rendered and one.clip_id in tags]
    fitted = {"vocals": fit_one([(tags[one.clip_id], one.vocals) for one in known if one.vocals is not None], SUNG)}
    for name, words in INSTRUMENTS.items():
        pairs = [(tags[one.clip_id], one.presence[name]) for one in known if name in one.presence]
        fitted[name] = fit_one(pairs, {"mtt": words})
    return fitted


def fit_one(pairs: Sequence[tuple[Tags, bool]], wanted: Words) -> list[Threshold]:
    """Return the thresholds of one thing from clips with and without it."""
    heard = np.array([evidence(tags, wanted) for tags, _ in pairs])
    there = np.array([present for _, present in pairs])
    yes, no = np.quantile(heard[~there], 0.99, axis=0), np.quantile(heard[there], 0.1, axis=0)
    return [Threshold(float(high), min(float(low), float(high))) for high, low in zip(yes, no, strict=True)]


def judge(tags: Tags, wanted: Words, thresholds: Sequence[Threshold]) -> bool | None:
    """Return whether a thing is there: every network reaches its yes. It is not where none does and one of them lies
    below its no; else None.
    """
    pairs = list(zip(evidence(tags, wanted), thresholds, strict=True))
    if all(value >= one.yes for value, one in pairs):
        return True
    below = all(value < one.yes for value, one in pairs) and any(value < one.no for value, one in pairs)
    return False if below else None


def choose(tags: Tags, options: Mapping[str, Words]) -> str | None:
    """Return the option of which every network is sure; None where there is none."""
    found = {name: evidence(tags, words) for name, words in options.items()}
    for name, values in found.items():
        others = [other for one, other in found.items() if one != name and len(other) == len(values)]
        sure = all(value >= SURE for value in values)
        if sure and all(value >= CLEAR * max([0, *rest]) for value, *rest in zip(values, *others, strict=True)):
            return name
    return None


def choose_genre(tags: Tags) -> str | None:
    """Return the genre with the best evidence, the geometric mean over its networks, where it is well ahead."""
    means = {}
    for name, words in GENRES.items():
        values = evidence(tags, words)
        if name == "jazz" and evidence(tags, {"mtt": NOT_JAZZ})[0] >= SURE / 2:
            continue
        if min(values) >= SURE / 2:
            means[name] = float(np.exp(np.mean(np.log(values))))
    if not means:
        return None
    if tags["mtt classical"] >= 2 * SURE:
        return "classical"
    if "metal" in means and means["metal"] >= SURE:
        means.pop("rock", None)
    best, *others = sorted(means, key=lambda name: -means[name])
    return best if means[best] >= SURE and all(means[best] >= CLEAR * means[one] for one in others) else None


def teach_rendering(known: Known, tags: Tags) -> None:
    """Write into a rendering what its plan and its tags say both, and whether it is classical music.

    Tags alone take a third of all renderings for classical music, plans alone do not carry over to real music: each
    is the other's witness.
    """
    genre = choose_genre(tags)
    if known.style in STYLES.get(genre or "", ()):
        known.genre = genre
    if known.genre == "classical":
        known.classical = True
    elif known.style and known.style not in NOT_TOLD:
        known.classical = False
    if known.electronic and choose(tags, OPPOSITES["electronic"]) == known.electronic:
        known.carried.append("electronic")


def teach(known: Known, tags: Tags, thresholds: Mapping[str, Sequence[Threshold]]) -> None:
    """Write into a real clip what its tags are sure of."""
    known.genre = choose_genre(tags)
    known.classical = None if known.genre is None else known.genre == "classical"
    known.vocals = judge(tags, SUNG, thresholds["vocals"])
    if known.vocals is False:
        known.voice = "none"
    elif known.vocals:
        known.voice = choose_voice(tags)
    presence = {name: judge(tags, {"mtt": words}, thresholds[name]) for name, words in INSTRUMENTS.items()}
    presence["guitar"] = judge_guitar(tags, presence["guitar"])
    known.presence = {name: there for name, there in presence.items() if there is not None}
    for kind in ("electronic", "mood", "energy"):
        setattr(known, kind, choose(tags, OPPOSITES[kind]))
    drums = choose(tags, OPPOSITES["drums"])
    known.drums = None if drums is None else drums == "yes"


def judge_guitar(tags: Tags, tagged: bool | None) -> bool | None:
    """Return whether there is a guitar. tagged: what the tags of guitars alone say."""
    if choose_genre(tags) in ("rock", "metal"):
        return True
    may_have = max(evidence(tags, PLAYED_ON_GUITARS)) >= SURE / 2
    return None if tagged is False and may_have else tagged


def choose_voice(tags: Tags) -> str | None:
    """Return female or male where both networks hear more of it than of the other."""
    female, male = evidence(tags, FEMALE), evidence(tags, MALE)
    if all(one > CLEAR * other for one, other in zip(female, male, strict=True)):
        return "female"
    return "male" if all(one > CLEAR * other for one, other in zip(male, female, strict=True)) else None
