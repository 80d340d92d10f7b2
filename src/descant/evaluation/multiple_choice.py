"""Multiple-choice questions as benchmarks write them: options with letters, in the text of the question."""

import re
from collections.abc import Mapping

# "(A) ", "A. " or "A) " at the beginning of a line, or after a space, a quotation mark or a bracket.
LETTER = re.compile(r"""(?:^|(?<=[\s'"\[]))\(?([A-Z])[.)]\s*""", re.MULTILINE)
AROUND = " \t\r'\",[]"


def read_options(prompt: str) -> tuple[str, dict[str, str]]:
    """Return the question and its options by their letters; no options where there are not at least two from A on.

    What stands on lines after the last option ("Answer with the option's letter") belongs to neither.
    """
    chosen: list[re.Match[str]] = []
    for mark in LETTER.finditer(prompt):
        if ord(mark[1]) == ord("A") + len(chosen):
            chosen.append(mark)
    if len(chosen) < 2:
        return prompt.strip(), {}
    ends = [mark.start() for mark in chosen[1:]] + [len(prompt)]
    texts = [prompt[mark.end() : end].strip().split("\n")[0] for mark, end in zip(chosen, ends, strict=True)]
    options = {mark[1]: text.strip(AROUND) for mark, text in zip(chosen, texts, strict=True)}
    return prompt[: chosen[0].start()].strip(AROUND + "\n"), options


def as_choice(question: str, options: Mapping[str, str]) -> dict[str, object]:
    """Return the typed question of `decide` for a question and its options by letter."""
    return {"type": "choice", "instructions": question, "criteria": dict.fromkeys(options.values())}


def find_letter(answer: str, options: Mapping[str, str]) -> str | None:
    """Return the letter that a generated answer gives, or that of the one option whose text it states; None: neither.

    Nothing is guessed: an answer that gives several letters, or states several options, has none.
    """
    text = answer.strip()
    marked = [mark[1] for mark in re.finditer(r"\(?\b([A-Z])\b(?:[).:]|$)", text) if mark[1] in options]
    if len(set(marked)) == 1:
        return marked[0]
    if marked:
        return None
    said = " ".join(re.findall(r"\w+", text.lower()))
    stated = [
        letter for letter, option in options.items()
        if (words := " ".join(re.findall(r"\w+", option.lower()))) and f" {words} " in f" {said} "
    ]  # fmt: skip
    longest = [one for one in stated if not any(_contains(options[two], options[one]) for two in stated if two != one)]
    return longest[0] if len(longest) == 1 else None


def _contains(longer: str, shorter: str) -> bool:
    return len(longer) > len(shorter) and shorter.lower() in longer.lower()
