"""The language of lyrics, told offline."""

from functools import lru_cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

UNCERTAIN = "und"
MIN_PROBABILITY = 0.5  # "la la la" and other words of no language stay well below
SAMPLE_CHARACTERS = 20_000  # the longest songs have half of that
_NO_LANGUAGE = "zxx"


def detect_language(lyrics: str) -> str:
    """An ISO 639 code such as `en`, or `und` where the words are too few or of no one language."""
    language, probability = _identifier().classify(lyrics[:SAMPLE_CHARACTERS])
    return UNCERTAIN if language == _NO_LANGUAGE or probability < MIN_PROBABILITY else language


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
