"""The canonical terms of the demo corpus's closed answers, each with its synonyms."""

import json
from pathlib import Path

TERMS_FILE = Path(__file__).with_name("terms.json")


def answer_terms() -> dict[str, dict[str, list[str]]]:
    """Map each closed question type to `{canonical term: [synonyms]}`, in the fixed order of the answers.

    How an answer is read: ignoring case, at word boundaries, the longest term or synonym first, and a matched
    stretch of text is used up ("no drums" is not also "drums", "western swing" not also "swing"). The answer is the
    set of canonical terms found: one term for every type but `instruments`, where it is the whole line-up.
    """
    return json.loads(TERMS_FILE.read_text(encoding="utf-8"))
