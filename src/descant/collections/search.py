"""Search of an index by words, facts, conditions and likeness; a `Searcher` stays warm for many searches.

A song's score is the sum of three parts between 0 and 1: how likely the facts are that the query names (and unlikely
those that it denies), how well its words match (BM25), and how near its caption is in meaning.
"""

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from descant.collections.query import Query, matched_facts, parse_query, select_ids
from descant.collections.search_index import (
    STEPS,
    UNKNOWN,
    VERSION,
    Encoder,
    as_text,
    list_options,
    load_encoder,
    pack_options,
)
from descant.collections.word_index import WordIndex
from descant.files import Record, write_whole
from descant.program import use_all_cores

FACTS, WORDS, MEANING, LIKENESS = 1.0, 0.5, 0.5, 1.0  # weights of the parts
LEAST_LIKELY = 0.02  # what a fact's probability counts at least: one surprise alone excludes nothing


# The logarithms of all probabilities in steps (0 to 250), where a fact is wanted and where it is not.
PROBABILITIES = np.arange(STEPS + 1, dtype=np.float32) / STEPS
WANTED = np.log(np.maximum(PROBABILITIES, LEAST_LIKELY))
UNWANTED = np.log(np.maximum(1 - PROBABILITIES, LEAST_LIKELY))


@dataclass(frozen=True)
class Hit:
    """A song that was found: its score, path and caption, its columns, and the facts that the query spoke of."""

    audio: str
    path: str
    score: float
    caption: str | None
    columns: dict[str, Any]
    facts: dict[str, float]

    def to_record(self) -> dict[str, Any]:
        """Return a line of JSON."""
        return {
            "audio": self.audio, "path": self.path, "score": round(self.score, 4), "caption": self.caption,
            "facts": self.facts, **self.columns,
        }  # fmt: skip


class Searcher:
    """An index that is open for reading, with its vectors in memory once they are needed."""

    def __init__(self, database: Path, load: Callable[[], Encoder] = load_encoder) -> None:
        """Open an index; raises ValueError for a file that is none. load: the encoder of its sentences."""
        if not database.is_file():
            raise ValueError(f"{database}: no such index: descant index DESCRIPTIONS --database {database}")
        self.load = load
        try:
            self.connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)
            self.connection.execute("PRAGMA query_only = ON")
            about = {name: json.loads(value) for name, value in self.connection.execute("SELECT * FROM about")}
        except (sqlite3.Error, ValueError) as error:
            raise ValueError(f"{database}: is no index of descant ({error}): make it again") from error
        if about.get("version") != VERSION:
            raise ValueError(f"{database}: was made by another version: make it again with descant index")
        self.database = database
        self.made: dict[str, Any] | None = about.get("made")  # by which model, see `find_maker`
        self.options: list[str] = about["options"]
        self.size: int = self.connection.execute("SELECT count(*) FROM tracks").fetchone()[0]
        embedded = self.connection.execute("SELECT EXISTS (SELECT 1 FROM songs WHERE sentence IS NOT NULL)").fetchone()
        self.has_sentences = bool(embedded[0])

    def search(
        self, text: str = "", where: str | None = None, like: str | Record | None = None, limit: int = 10
    ) -> list[Hit]:
        """Return the best songs, the best first.

        Args:
            text: what is looked for, in words.
            where: a condition, see `select_ids`.
            like: a song whose likes are looked for: one of the index by its name or path, or the description of
                another one, see `describe_outside`.
            limit: hits at most.

        Raises ValueError for a condition that is none, and for a song that is not in the index.
        """
        query = parse_query(text, self.options)
        scores = self.score_plainly(query) if text.strip() else np.zeros(self.size, np.float32)
        if isinstance(like, str):
            number = self.find(like)
            scores += LIKENESS * (self.directions @ self.directions[number])
            scores[number] = -np.inf
        elif like is not None:
            scores += LIKENESS * (self.directions @ self.direct(like))
        if where is not None:
            left_out = np.ones(self.size, bool)
            left_out[np.asarray(select_ids(self.connection, where), int) - 1] = False
            scores[left_out] = -np.inf
        candidates = np.flatnonzero(np.isfinite(scores))
        if text.strip() and self.has_sentences:  # which add to a score, and at most so much
            candidates = candidates[find_near(scores[candidates], limit, MEANING)]
            scores[candidates] += MEANING * self.score_meaning(query, candidates)
        candidates = candidates[find_near(scores[candidates], limit)]
        best = candidates[np.argsort(-scores[candidates], kind="stable")][:limit]
        return [self._hit(int(number), float(scores[number]), query) for number in best]

    def score(self, query: Query) -> np.ndarray:
        """Return the scores (songs,) of a query in words."""
        scores = self.score_plainly(query)
        if self.has_sentences:
            scores += MEANING * self.score_meaning(query, np.arange(self.size))
        return scores

    def score_plainly(self, query: Query) -> np.ndarray:
        """Return the scores (songs,) of a query by facts and words, without their meaning."""
        return FACTS * self.score_facts(query) + WORDS * self.score_words(query.words)

    def score_meaning(self, query: Query, numbers: np.ndarray) -> np.ndarray:
        """Return how near (numbers,) the captions of these songs are in meaning, between 0 and 1."""
        (vector,) = self.load().encode([query.text])
        chosen = self.sentences[numbers] if 4 * len(numbers) < self.size else self.sentences
        near = np.clip(chosen @ vector, 0, 1)
        return near if len(near) == len(numbers) else near[numbers]

    def score_facts(self, query: Query) -> np.ndarray:
        """Return the geometric mean (songs,) of the probabilities that a song has and lacks what it should."""
        total = np.zeros(self.size, np.float32)
        for groups, logs in ((query.wanted, WANTED), (query.unwanted, UNWANTED)):
            for group in groups:
                total += logs[self.present[[self.options.index(option) for option in group]].max(axis=0)]
        named = len(query.wanted) + len(query.unwanted)
        return np.where(self.is_open, 0, np.exp(total / named)) if named else total

    def score_words(self, words: Sequence[str]) -> np.ndarray:
        """Return BM25 (songs,) of words, as shares of the best song's."""
        scores = self.words.score(words)
        return scores / max(scores.max(initial=0), np.float32(1e-12))

    def direct(self, description: Record) -> np.ndarray:
        """Return the unit vector (width,) to a song that is not in the index; raises ValueError where it has none."""
        if self.states is None:
            packed = np.frombuffer(pack_options(list_options(description), self.options), np.uint8)
            (vector,) = scale_options(packed[None])
        elif description.get("states") is None:
            raise ValueError(f"{description['audio']}: no music is heard in it, so that it has no likes")
        else:
            vector = np.asarray(description["states"], np.float16).astype(np.float32)
        if vector.shape != self.centre.shape:
            raise ValueError(f"{self.database}: was made by another model: make it again from new descriptions")
        return _scale((vector - self.centre)[None])[0]

    def holds(self, name: str) -> bool:
        """Return whether a song is in the index, by its name in the descriptions or its path."""
        return self._look_up(name) is not None

    def find(self, name: str) -> int:
        """Return the number of a song by its name in the descriptions or its path; raises ValueError."""
        number = self._look_up(name)
        if number is None:
            raise ValueError(f"{name}: is not in the index: describe it, and make the index again")
        return number

    def _look_up(self, name: str) -> int | None:
        asked = (as_text(name), as_text(str(Path(name).resolve())))
        row = self.connection.execute(
            "SELECT id FROM songs JOIN tracks USING (id) WHERE audio = ? OR path = ? LIMIT 1", asked
        ).fetchone()
        return None if row is None else row[0] - 1

    @cached_property
    def likely(self) -> np.ndarray:
        """Probabilities (songs, options) of all options, in steps; uint8."""
        packed = b"".join(row[0] for row in self.connection.execute("SELECT options FROM songs ORDER BY id"))
        return np.frombuffer(packed, np.uint8).reshape(self.size, len(self.options))

    @cached_property
    def present(self) -> np.ndarray:
        """Probabilities (options, songs) in steps, a half where one is not known; uint8."""
        return np.ascontiguousarray(np.where(self.likely == UNKNOWN, STEPS // 2, self.likely).astype(np.uint8).T)

    @cached_property
    def is_open(self) -> np.ndarray:
        """Whether nothing is known of each song (songs,), as where no music is heard: it has and lacks nothing."""
        return (self.likely == UNKNOWN).all(axis=1)

    @cached_property
    def words(self) -> WordIndex:
        """The words of all songs' texts."""
        return WordIndex(self.connection, self.size)

    @cached_property
    def directions(self) -> np.ndarray:
        """Unit vectors (songs, width) from the mean of all songs to each, in audio states or in what was decided."""
        return _scale(self._vectors - self.centre)

    @cached_property
    def centre(self) -> np.ndarray:
        """The mean (width,) of all songs, in audio states or in what was decided."""
        return self._vectors.mean(axis=0)

    @cached_property
    def _vectors(self) -> np.ndarray:
        return scale_options(self.likely) if self.states is None else self.states

    @cached_property
    def sentences(self) -> np.ndarray:
        """Embeddings (songs, width) of captions; zeros where there is none."""
        return self._read_vectors("sentence")

    @cached_property
    def states(self) -> np.ndarray | None:
        """Mean audio states (songs, width); None where not every song has them."""
        has = self.connection.execute("SELECT count(states) FROM songs").fetchone()[0]
        return self._read_vectors("states") if has == self.size else None

    def _read_vectors(self, column: str) -> np.ndarray:
        """Read vectors (songs, width), zeros where a song has none; raises ValueError where their widths differ."""
        rows = [row[0] for row in self.connection.execute(f"SELECT {column} FROM songs ORDER BY id")]
        width = max((len(row) for row in rows if row is not None), default=0)
        if any(row is not None and len(row) != width for row in rows):
            raise ValueError(f"the {column} of songs are of different models: describe all with one")
        packed = b"".join(bytes(width) if row is None else row for row in rows)
        return np.frombuffer(packed, np.float16).reshape(self.size, width // 2).astype(np.float32)

    def _hit(self, number: int, score: float, query: Query) -> Hit:
        rows = self.connection.execute("SELECT * FROM tracks WHERE id = ?", (number + 1,))
        columns = dict(zip([one[0] for one in rows.description], rows.fetchone(), strict=True))
        path, caption = self.connection.execute(
            "SELECT path, caption FROM songs WHERE id = ?", (number + 1,)
        ).fetchone()
        known = {
            name: int(value) / STEPS
            for name, value in zip(self.options, self.likely[number], strict=True)
            if value != UNKNOWN
        }
        columns.pop("id")
        return Hit(columns.pop("audio"), path, score, caption, columns, matched_facts(query, known))


def _scale(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def scale_options(likely: np.ndarray) -> np.ndarray:
    """Return probabilities (songs, options) out of steps, a half where one is not known."""
    return np.where(likely == UNKNOWN, STEPS / 2, likely).astype(np.float32) / STEPS


def describe_outside(searcher: Searcher, song: str, model: str | None = None) -> Record:
    """Describe a song that is not in an index with the model that made it, its audio state included.

    model: in place of the name under which the descriptions have it. Raises ValueError where it is another model, and
    AudioError for a song that cannot be heard.
    """
    from descant.answering.description import Describer
    from descant.answering.listener import Listener
    from descant.answering.model_folder import find_model, fingerprint_model

    database, made = searcher.database, searcher.made
    if made is None:
        raise ValueError(f"{song}: is not in the index, and which model made {database} cannot be said: describe the "
                         "songs with --output and one model, and make the index again")  # fmt: skip
    name = model or made["model"]
    if fingerprint_model(find_model(name)) != made["weights"]:
        raise ValueError(f"{database}: was made by another model than {name}: name that one as --model, or describe "
                         "the songs and make the index again")  # fmt: skip
    use_all_cores()
    return Describer(Listener.load(name), made["hear"], states=searcher.states is not None).describe(song)


def find_near(scores: np.ndarray, count: int, most: float = 0.0) -> np.ndarray:
    """Return the numbers of the scores that are among the best ones where each may grow by so much at most."""
    if count >= len(scores):
        return np.arange(len(scores))
    return np.flatnonzero(scores >= np.partition(scores, -count)[-count] - np.float32(most))


def write_playlist(path: Path, hits: Sequence[Hit]) -> list[Hit]:
    """Write hits as an .m3u playlist, by their paths; return those with a line break in it, which cannot be held."""
    lines, left_out = ["#EXTM3U"], []
    for hit in hits:
        if {"\n", "\r"} & set(hit.path):
            left_out.append(hit)
        else:
            lines += [f"#EXTINF:{round(hit.columns['duration_s'] or -1)},{Path(hit.path).stem}", hit.path]
    write_whole(path, "\n".join(lines) + "\n")
    return left_out
