"""Search: how well 60 queries with known right clips of the embedded corpus are answered, and how fast 100,000 songs.

    python tests/benchmarks/bench_search.py quality [--descriptions FILE] [--sentences]
    python tests/benchmarks/bench_search.py speed [--songs 100000]

quality: mean average precision and recall@10 of the search, of plain BM25 over the same texts and of a random order,
with paired bootstrap intervals over queries. Without --descriptions, of a model over the corpus, descriptions are made
from the facts: captions are the corpus's own, and one typed answer in five is wrong.
"""

import argparse
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from descant.collections.facts import read_descriptions
from descant.collections.query import STOP_WORDS, parse_query
from descant.collections.search import Searcher
from descant.collections.search_index import load_encoder, write_index
from descant.data.annotations import read_annotations
from descant.data.demo.corpus import DATA_DIR, facts
from descant.data.terms import normalise
from descant.evaluation.measures import bootstrap_interval

WRONG = 0.2  # of typed answers
QUERIES, LEAST_RIGHT, MOST_RIGHT = 60, 5, 150
OPTIONS = {
    "genre": ("jazz", "blues", "rock", "country", "folk", "latin", "ballroom", "electronic", "funk", "hip-hop",
              "march", "pop"),
    "mood": ("sad", "peaceful", "mysterious", "cheerful", "energetic"),
    "tempo_class": ("slow", "medium", "fast"),
    "metre": ("4/4", "3/4", "6/8"),
}  # fmt: skip
INSTRUMENTS = ("piano", "organ", "acoustic guitar", "electric guitar", "bass", "drums", "violin", "strings", "brass",
               "trumpet", "saxophone", "flute", "accordion", "synthesizer", "vibraphone")  # fmt: skip
# How a person may say it; the corpus's captions have their own words.
SAID = {
    "sad": "melancholic", "peaceful": "relaxed", "cheerful": "happy", "energetic": "lively", "saxophone": "sax",
    "violin": "fiddle", "slow": "slow tempo", "fast": "up-tempo", "synthesizer": "synth", "electronic": "electronica",
}  # fmt: skip
Row = dict[str, str]


@dataclass(frozen=True)
class Asked:
    """A query and the clips that are right."""

    text: str
    right: frozenset[str]
    denies: bool


def has(row: Row, name: str, value: str) -> bool:
    return value in row["instruments"].split("; ") if name == "instruments" else row[name] == value


def draw_queries(rows: Sequence[Row], count: int = QUERIES, seed: int = 0) -> list[Asked]:
    """Draw queries of two or three facts, every second one with a denial, each with 5 to 150 right clips."""
    drawn, asked = random.Random(seed), {}
    while len(asked) < count:
        denies = len(asked) % 2 == 1
        row = drawn.choice(rows)
        named = drawn.sample(["genre", "mood", "tempo_class", "metre", "instruments"], drawn.choice((2, 3)))
        chosen = [(name, drawn.choice(row["instruments"].split("; ")) if name == "instruments" else row[name])
                  for name in named]  # fmt: skip
        absent = drawn.choice([name for name in INSTRUMENTS if not has(row, "instruments", name)]) if denies else None
        right = frozenset(
            one["clip_id"] for one in rows
            if all(has(one, *fact) for fact in chosen) and not (absent and has(one, "instruments", absent))
        )  # fmt: skip
        text = word_query(chosen, absent, drawn)
        if LEAST_RIGHT <= len(right) <= MOST_RIGHT:
            asked[text] = Asked(text, right, denies)
    return list(asked.values())


def word_query(chosen: Sequence[tuple[str, str]], absent: str | None, drawn: random.Random) -> str:
    words = [SAID.get(value, value) if drawn.random() < 0.7 else value for _, value in chosen]
    drawn.shuffle(words)
    denial = f" {drawn.choice(('without', 'no'))} {absent}" if absent else ""
    return f"{', '.join(words)}{',' if denial else ''}{denial}"


def describe_facts(row: Row, caption: str, wrong: float, drawn: random.Random) -> dict[str, Any]:
    """Return a description as a model of (1 - wrong) accuracy would give it."""
    decisions: dict[str, Any] = {}
    for name, options in OPTIONS.items():
        truth = row[name] if drawn.random() >= wrong else drawn.choice([one for one in options if one != row[name]])
        sure = drawn.uniform(0.4, 0.95)
        rest = (1 - sure) / (len(options) - 1)
        probabilities = {option: sure if option == truth else rest for option in options}
        decisions[name] = {"type": "choice", "choice": truth, "probabilities": probabilities, "sure": sure > 0.6}
    playing = {}
    for name in INSTRUMENTS:
        present = has(row, "instruments", name) != (drawn.random() < wrong / 2)
        noul = drawn.uniform(0.5, 0.95) if present else drawn.uniform(0.05, 0.5)
        playing[name] = {"type": "noul", "noul": noul, "sure": abs(noul - 0.5) > 0.2}
    open_ones = {name: {"type": "noul", "noul": 0.5, "sure": False, "reason": "unlike training"}
                 for name in ("energy", "voice", "electronic", "vocals")}  # fmt: skip
    decisions |= open_ones | {"instruments": playing}
    return {
        "audio": row["clip_id"], "duration_s": 10.0, "caption": {"text": caption}, "decisions": decisions,
        "measured": None, "model": "facts",
    }  # fmt: skip


def describe_corpus(rows: Sequence[Row], wrong: float = WRONG, seed: int = 0) -> list[dict[str, Any]]:
    captions = {row.clip_id: row.answer for row in read_annotations(DATA_DIR / "demo_musiccaps.csv").rows}
    drawn = random.Random(seed)
    return [describe_facts(row, captions[row["clip_id"]], wrong, drawn) for row in rows]


# Quality


def rank_all(searcher: Searcher, asked: Asked) -> list[str]:
    return order_names(searcher, searcher.score(parse_query(asked.text, searcher.options)))


def rank_plain(searcher: Searcher, asked: Asked) -> list[str]:
    """Rank by BM25 over the same texts, with all words of the query but stop words."""
    words = [word for word in normalise(asked.text).replace("/", " ").split() if word not in STOP_WORDS]
    return order_names(searcher, searcher.score_words(words))


def order_names(searcher: Searcher, scores: np.ndarray) -> list[str]:
    names = [row[0] for row in searcher.connection.execute("SELECT audio FROM tracks ORDER BY id")]
    return [names[number] for number in np.argsort(-scores, kind="stable")]


def average_precision(ranking: Sequence[str], right: frozenset[str]) -> float:
    hits = [rank for rank, name in enumerate(ranking, start=1) if name in right]
    return sum(number / rank for number, rank in enumerate(hits, start=1)) / len(right)


def recall_at_10(ranking: Sequence[str], right: frozenset[str]) -> float:
    """Return the share of the right ones among the first ten, of ten at most."""
    return len(right & set(ranking[:10])) / min(10, len(right))


def measure_quality(descriptions: Sequence[dict[str, Any]], sentences: bool = False) -> dict[str, Any]:
    """Return each system's scores, and the paired differences from plain BM25, with 95 % intervals over queries."""
    described = {one["audio"] for one in descriptions}
    rows = [row for row in facts() if row["clip_id"] in described]
    queries = draw_queries(rows)
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "music.db"
        write_index(database, descriptions, load_encoder() if sentences else None)
        searcher = Searcher(database)
        shuffled = random.Random(0)
        names = [row["clip_id"] for row in rows]
        systems: dict[str, Callable[[Asked], list[str]]] = {
            "search": lambda asked: rank_all(searcher, asked),
            "bm25": lambda asked: rank_plain(searcher, asked),
            "random": lambda asked: shuffled.sample(names, len(names)),
        }
        rankings = {name: [rank(asked) for asked in queries] for name, rank in systems.items()}
    result: dict[str, Any] = {"queries": len(queries), "denials": sum(asked.denies for asked in queries)}
    for measure in (average_precision, recall_at_10):
        scores = {name: [measure(one, asked.right) for one, asked in zip(found, queries, strict=True)]
                  for name, found in rankings.items()}  # fmt: skip
        scores["search - bm25"] = [a - b for a, b in zip(scores["search"], scores["bm25"], strict=True)]
        result[measure.__name__] = {
            name: {"mean": statistics.mean(values), "interval": list(bootstrap_interval(values, range(len(values))))}
            for name, values in scores.items()
        }
    return result


# Speed


def make_up(number: int, drawn: random.Random, width: int = 768) -> dict[str, Any]:
    """Return a made-up description with a caption of two sentences and audio states."""
    row = {name: drawn.choice(options) for name, options in OPTIONS.items()}
    row |= {"clip_id": f"music/{number // 100}/song {number}.mp3",
            "instruments": "; ".join(drawn.sample(INSTRUMENTS, 4))}  # fmt: skip
    caption = f"The clip features {row['mood']} {row['genre']} at a {row['tempo_class']} pace in {row['metre']}. "
    caption += f"It is played by {row['instruments'].replace(';', ',')}, recorded in room {drawn.randrange(500)}."
    states = np.random.default_rng(number).normal(size=width).astype(np.float16)
    return describe_facts(row, caption, WRONG, drawn) | {"states": states}


class FixedEncoder:
    """Stands for a sentence encoder: unit vectors by chance, of the real width."""

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        vectors = np.random.default_rng(len(sentences[0])).normal(size=(len(sentences), 384)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def measure_speed(songs: int, turns: int = 20) -> dict[str, Any]:
    """Return seconds of making an index, its bytes a song, and milliseconds of searches in a warm process."""
    drawn = random.Random(0)
    descriptions = [make_up(number, drawn) for number in range(songs)]
    queries = [asked.text for asked in draw_queries(facts(), turns)]
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "music.db"
        began = time.perf_counter()
        write_index(database, descriptions, FixedEncoder())
        seconds = time.perf_counter() - began
        size = database.stat().st_size
        searcher = Searcher(database, FixedEncoder)
        like, where = descriptions[0]["audio"], "genre = 'jazz' and drums < 0.3"
        searcher.search(queries[0], where, like)  # warm
        kinds: dict[str, Callable[[str], Any]] = {
            "words": searcher.search,
            "words and where": lambda text: searcher.search(text, where),
            "like": lambda text: searcher.search(like=like),
        }
        spent = {name: [_time(run, text) for text in queries] for name, run in kinds.items()}
    milliseconds = {
        name: {"median": 1000 * statistics.median(wall for wall, _ in one), "worst": 1000 * max(one)[0],
               "median of CPU": 1000 * statistics.median(cpu for _, cpu in one)}
        for name, one in spent.items()
    }  # fmt: skip
    return {"songs": songs, "index_s": seconds, "bytes_a_song": size / songs, "milliseconds": milliseconds}


def _time(run: Callable[[str], Any], text: str) -> tuple[float, float]:
    """Return the seconds that passed, and those of the CPU, which another program's load does not lengthen."""
    began, worked = time.perf_counter(), time.process_time()
    run(text)
    return time.perf_counter() - began, time.process_time() - worked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("quality", "speed"))
    parser.add_argument("--descriptions", type=Path, help="of the corpus, by a model")
    parser.add_argument("--sentences", action="store_true", help="with the sentence encoder")
    parser.add_argument("--songs", type=int, default=100_000)
    args = parser.parse_args()
    if args.what == "speed":
        result = measure_speed(args.songs) | {"sqlite": sqlite3.sqlite_version}
    else:
        found = read_descriptions(args.descriptions)[0] if args.descriptions else describe_corpus(facts())
        clips = {row["clip_id"] for row in facts()}
        named = [one | {"audio": Path(one["audio"]).stem} for one in found]
        result = measure_quality([one for one in named if one["audio"] in clips], args.sentences)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
