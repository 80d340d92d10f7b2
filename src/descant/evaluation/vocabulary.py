"""How long and how varied the predictions are, whatever they are compared with.

The published tables count `vocab_size` in a way that their published code does not; here a word is what that code
calls one (lower case, commas and full stops removed, split at spaces), over all predictions and all references.
"""

from collections.abc import Iterable, Sequence

from descant.evaluation.measures import Distinct, Measure, deviation_of, mean_of


def words_of(text: str) -> set[str]:
    """The different words of a text."""
    return set(text.lower().replace(",", "").replace(".", "").split())


def vocabulary_measures(predictions: Sequence[str], train_references: Iterable[str] | None) -> list[Measure]:
    """Vocabulary size and mean and deviation of the length in words; given training texts, also what is new.

    `vocab_novelty` is the share of the different words, `caption_novelty` of the different predictions, that no
    training text has.
    """
    words = [words_of(text) for text in predictions]
    lengths = [len(text.split()) for text in predictions]
    novelty: list[Measure] = []
    if train_references is not None:
        known = list(train_references)
        novelty.append(Distinct("vocab_novelty", words, frozenset().union(*map(words_of, known))))
        novelty.append(Distinct("caption_novelty", [{text} for text in predictions], frozenset(known)))
    return [
        Distinct("vocab_size", words), *novelty,
        mean_of("length_avg", lengths), deviation_of("length_std", lengths),
    ]  # fmt: skip
