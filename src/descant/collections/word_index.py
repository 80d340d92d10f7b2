"""The words of texts and their BM25: lists of the texts that hold each word, made by SQLite's FTS5, scored by numpy.

FTS5 splits texts and reduces words to their stems. Its own ranking computes a score for every match in turn, which for
a word that a third of 100,000 captions have takes as long as all else of a search; here one addition of arrays does.
"""

import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from itertools import groupby
from operator import itemgetter

import numpy as np

TOKENIZER = "porter unicode61"
K1, B = 1.2, 0.75  # of BM25, as FTS5 has them: https://www.sqlite.org/fts5.html#the_bm25_function
LEAST_IDF = 1e-6  # of a word that most texts have
MOST_COUNTED = 255  # times that a word counts in one text


class Splitter:
    """Splits a query into the stems of its words, as texts were split."""

    def __init__(self) -> None:
        self.connection = _open_splitter()

    def split(self, words: Sequence[str]) -> Counter[str]:
        """Return how often each stem is among words."""
        self.connection.execute("INSERT INTO texts(texts) VALUES ('delete-all')")
        self.connection.execute("INSERT INTO texts(rowid, text) VALUES (1, ?)", (" ".join(words),))
        return Counter(stem for (stem,) in self.connection.execute("SELECT term FROM stems"))


def _open_splitter() -> sqlite3.Connection:
    connection = sqlite3.connect("")  # in memory, and on the disk where it grows large
    connection.execute(f"CREATE VIRTUAL TABLE texts USING fts5(text, content='', tokenize='{TOKENIZER}')")
    connection.execute("CREATE VIRTUAL TABLE stems USING fts5vocab(texts, instance)")
    return connection


def write_words(connection: sqlite3.Connection, texts: Iterable[str]) -> None:
    """Write for each stem the numbers of the texts that hold it (from 0) and how often they do, and all lengths.

    words: stem, numbers (uint32), counts (uint8). lengths: in stems (uint32), one row for all texts.
    """
    connection.execute("CREATE TABLE words (stem TEXT PRIMARY KEY, numbers BLOB, counts BLOB)")
    connection.execute("CREATE TABLE lengths (texts BLOB)")
    with closing(_open_splitter()) as splitter:
        splitter.executemany("INSERT INTO texts(rowid, text) VALUES (?, ?)", enumerate(texts))
        (last,) = splitter.execute("SELECT max(doc) FROM stems").fetchone()
        lengths = np.zeros(0 if last is None else last + 1, np.uint32)
        for stem, rows in groupby(splitter.execute("SELECT term, doc FROM stems"), itemgetter(0)):
            numbers, counts = np.unique(np.fromiter((row[1] for row in rows), np.uint32), return_counts=True)
            lengths[numbers] += counts.astype(np.uint32)
            packed = np.minimum(counts, MOST_COUNTED).astype(np.uint8).tobytes()
            connection.execute("INSERT INTO words VALUES (?, ?, ?)", (stem, numbers.tobytes(), packed))
    connection.execute("INSERT INTO lengths VALUES (?)", (lengths.tobytes(),))


class WordIndex:
    """Scores all texts of an index that `write_words` wrote."""

    def __init__(self, connection: sqlite3.Connection, size: int) -> None:
        """
        size: number of texts.
        """
        self.connection, self.size, self.splitter = connection, size, Splitter()
        found = np.frombuffer(connection.execute("SELECT texts FROM lengths").fetchone()[0], np.uint32)
        lengths = np.zeros(size, np.float32)
        lengths[: len(found)] = found
        mean = max(float(lengths.sum()) / max(size, 1), 1e-12)
        self.penalties = (K1 * (1 - B + B * lengths / mean)).astype(np.float32)

    def score(self, words: Sequence[str]) -> np.ndarray:
        """Return BM25 (texts,) of words, float32; a word that is given twice counts twice."""
        scores = np.zeros(self.size, np.float32)
        for stem, times in self.splitter.split(words).items():
            row = self.connection.execute("SELECT numbers, counts FROM words WHERE stem = ?", (stem,)).fetchone()
            if row is None:
                continue
            numbers = np.frombuffer(row[0], np.uint32)
            counts = np.frombuffer(row[1], np.uint8).astype(np.float32)
            idf = max(math.log((self.size - len(numbers) + 0.5) / (len(numbers) + 0.5)), LEAST_IDF)
            scores[numbers] += np.float32(times * idf * (K1 + 1)) * counts / (counts + self.penalties[numbers])
        return scores
