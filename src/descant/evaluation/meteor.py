"""METEOR as NLTK computes it, from exact words, then stems, then WordNet's synonyms.

Lavie and Agarwal 2007, with NLTK's defaults (alpha 0.9, beta 3, gamma 0.5); over several references, the best score.
"""

import contextlib
import io
import os
import re
import warnings
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import nltk
from nltk.corpus import wordnet as nltk_wordnet
from nltk.corpus.reader.wordnet import Synset, WordNetCorpusReader
from nltk.stem.porter import PorterStemmer
from nltk.tokenize import NLTKWordTokenizer
from nltk.translate.meteor_score import meteor_score

DEBIAN_FOLDER = "/usr/share/wordnet"
# WordNet's lexnames(5WN), which Debian leaves out: the lexicographer files in the order of their numbers.
LEXICOGRAPHER_FILES = (
    "adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body noun.cognition "
    "noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive noun.object "
    "noun.person noun.phenomenon noun.plant noun.possession noun.process noun.quantity noun.relation noun.shape "
    "noun.state noun.substance noun.time verb.body verb.change verb.cognition verb.communication verb.competition "
    "verb.consumption verb.contact verb.creation verb.emotion verb.motion verb.perception verb.possession verb.social "
    "verb.stative verb.weather adj.ppl"
)
CATEGORY = {"noun": 1, "verb": 2, "adj": 3, "adv": 4}


class PlainWordNet(WordNetCorpusReader):
    """WordNet's own files without what NLTK's copy adds for other languages and sense keys."""

    def open(self, file: str) -> Any:
        """Open a file of the dictionary; `lexnames` is made here."""
        if file != "lexnames":
            return super().open(file)
        names = enumerate(LEXICOGRAPHER_FILES.split())
        return io.StringIO("".join(f"{i:02d}\t{name}\t{CATEGORY[name.split('.')[0]]}\n" for i, name in names))

    def map_wn(self, version: str = "wordnet") -> None:
        """Make no map to other languages: it would need index.sense."""


class CachedSynsets:
    """The one call that METEOR makes, remembered: a caption's words come again and again."""

    def __init__(self, reader: WordNetCorpusReader, source: str) -> None:
        self.synsets = lru_cache(maxsize=None)(reader.synsets)
        self.source = source


class NoWordNet:
    """Knows no synonyms: METEOR with exact and stem matches only."""

    source = "none"

    def synsets(self, word: str) -> list[Synset]:
        """Return nothing."""
        return []


@cache
def load_wordnet() -> CachedSynsets | NoWordNet:
    """Load WordNet where it is installed. Without it METEOR is another metric, which must be named so."""
    with contextlib.suppress(LookupError, OSError):  # absent, or a hand-made copy without index.sense
        nltk_wordnet.ensure_loaded()
        return CachedSynsets(nltk_wordnet, "NLTK's copy")
    copies = [Path(folder) / "corpora" / "wordnet" for folder in nltk.data.path]
    for folder in (*copies, Path(os.environ.get("WNSEARCHDIR", DEBIAN_FOLDER))):
        if (folder / "data.noun").is_file():
            return CachedSynsets(read_plain_wordnet(folder), "WordNet's own files")
    return NoWordNet()


def read_plain_wordnet(folder: Path) -> PlainWordNet:
    """Read WordNet's own files."""
    if str(folder) not in nltk.data.path:
        nltk.data.path.append(str(folder))  # NLTK opens nothing outside the folders of this list
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The multilingual functions")
        return PlainWordNet(str(folder), None)


TREEBANK = NLTKWordTokenizer()
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class CachedStems(PorterStemmer):
    """Porter's stems, remembered."""

    stem = cache(PorterStemmer.stem)


STEMS = CachedStems()


def split_words(text: str) -> list[str]:
    """NLTK's Treebank words of each sentence, a sentence ending at ".", "!" or "?" before a space.

    `nltk.word_tokenize` finds the sentences with its Punkt data, a further download; on the published MusicCaps
    predictions this rule changes METEOR by 2e-5.
    """
    return [word for sentence in SENTENCE_END.split(text) for word in TREEBANK.tokenize(sentence)]


def meteor_name() -> str:
    """Return `meteor`, or another name where WordNet is missing: a caption pair's 0.43 is then 0.17."""
    return "meteor_no_wordnet" if isinstance(load_wordnet(), NoWordNet) else "meteor"


def meteor_scores(
    predictions: Sequence[str], references: Sequence[Sequence[str]], tokenize: Callable[[str], list[str]]
) -> list[float]:
    """Return METEOR of every prediction against its references."""
    wordnet = load_wordnet()
    return [
        meteor_score(
            [tokenize(reference) for reference in texts], tokenize(prediction), stemmer=STEMS, wordnet=wordnet
        )
        for prediction, texts in zip(predictions, references, strict=True)
    ]
