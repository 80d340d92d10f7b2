"""Finds WordNet 3.0 for METEOR: NLTK's own copy, or the dictionary that Debian's `wordnet-base` installs.

To install it: `python -c "import nltk; nltk.download('wordnet')"`, or `apt install wordnet-base`, or set WNSEARCHDIR
(WordNet's own variable) to a folder that holds WordNet's `data.*`, `index.*` and `*.exc`.
"""

import contextlib
import io
import os
import warnings
from functools import cache, lru_cache
from pathlib import Path

import nltk
from nltk.corpus import wordnet as nltk_wordnet
from nltk.corpus.reader.wordnet import Synset, WordNetCorpusReader

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

    def open(self, file: str):
        """Opens a file of the dictionary; `lexnames` is made here."""
        if file != "lexnames":
            return super().open(file)
        names = enumerate(LEXICOGRAPHER_FILES.split())
        return io.StringIO("".join(f"{i:02d}\t{name}\t{CATEGORY[name.split('.')[0]]}\n" for i, name in names))

    def map_wn(self, version: str = "wordnet") -> None:
        """No map to other languages: it would need index.sense."""


class CachedSynsets:
    """The one call that METEOR makes, remembered: a caption's words come again and again."""

    def __init__(self, reader: WordNetCorpusReader, source: str) -> None:
        self.synsets = lru_cache(maxsize=None)(reader.synsets)
        self.source = source


class NoWordNet:
    """Knows no synonyms: METEOR with exact and stem matches only."""

    source = "none"

    def synsets(self, word: str) -> list[Synset]:
        """Nothing."""
        return []


@cache
def load_wordnet() -> CachedSynsets | NoWordNet:
    """WordNet where it is installed. Without it METEOR is another metric, which must be named so."""
    with contextlib.suppress(LookupError, OSError):  # absent, or a hand-made copy without index.sense
        nltk_wordnet.ensure_loaded()
        return CachedSynsets(nltk_wordnet, "NLTK's copy")
    copies = [Path(folder) / "corpora" / "wordnet" for folder in nltk.data.path]
    for folder in (*copies, Path(os.environ.get("WNSEARCHDIR", DEBIAN_FOLDER))):
        if (folder / "data.noun").is_file():
            return CachedSynsets(read_plain_wordnet(folder), "WordNet's own files")
    return NoWordNet()


def read_plain_wordnet(folder: Path) -> PlainWordNet:
    """Reads WordNet's own files."""
    if str(folder) not in nltk.data.path:
        nltk.data.path.append(str(folder))  # NLTK opens nothing outside the folders of this list
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The multilingual functions")
        return PlainWordNet(str(folder), None)
