"""Multiple-choice benchmarks in the forms in which they are published, as items: a sound, a question, options.

MuChoMusic (rows of the Hub, or its own prompts in JSON), MMAU, files of one's own in MMAU's form, and the demo's
closed questions.
"""

import hashlib
import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from descant.data.demo import demo_dir, load_demo
from descant.data.sources import find_audio_column, suffix_of
from descant.data.tables import Columns, Problem, Record, name_problem, read_table
from descant.evaluation.exact import canonical_answer, is_closed
from descant.evaluation.multiple_choice import read_options
from descant.files import sha256_of

COLUMNS: Columns = (
    frozenset({"question", "choices", "answer"}),
    frozenset({"instruction", "choices", "answer"}),
    frozenset({"prompt", "answers", "answer_orders"}),
)
AUDIO = ("audio", "audio_path", "audio_id", "context")
TOPICS = ("question_type", "sub-category", "sub_category", "category", "dataset")
MOST_OPTIONS = 26
CLIP_DIGITS = 16  # of the hash of a sound, by which a clip is known
DEMO_OPTIONS, DEMO_SEED = 4, 0


@dataclass(frozen=True)
class Published:
    """A system's accuracy in percent, as its source states it."""

    system: str
    accuracy: float
    data: str
    source: str


@dataclass(frozen=True)
class HubBenchmark:
    """Where a benchmark lies on the Hub: a data set, and which of its files and rows are asked."""

    repository: str
    files: str  # a pattern of their names
    task: str | None = None
    published: Published | None = None


HUB = {
    "muchomusic": HubBenchmark(
        "lmms-lab-audio/muchomusic", r"(.*/)?test-.*\.parquet", None,
        Published("Music Flamingo", 74.58, "MuChoMusic", "https://arxiv.org/abs/2511.10289"),
    ),
    "mmau_music": HubBenchmark(
        "lmms-lab-audio/mmau", r"(.*/)?test_mini-.*\.parquet", "music",
        Published("Qwen2-Audio-Instruct", 50.98, "MMAU test-mini, music, before its revision of May 2025",
                  "https://arxiv.org/abs/2410.19168"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class ChoiceItem:
    """A question with options about a sound, of which `options[right]` is right.

    clip: a hash of the sound. topic: what the benchmark calls the kind of question, "" where it does not.
    """

    id: str
    clip: str
    audio: str
    question: str
    options: tuple[str, ...]
    right: int
    topic: str = ""


@dataclass(frozen=True)
class Benchmark:
    """The items that can be asked, and each record that cannot."""

    name: str
    items: list[ChoiceItem]
    problems: list[Problem] = field(default_factory=list)
    published: Published | None = None


def read_benchmark(source: str, audio_dir: str | None = None) -> Benchmark:
    """Read a benchmark.

    Args:
        source: `muchomusic` or `mmau_music` (from the Hub), `demo`, or a file: JSON, JSON lines, CSV or Parquet.
        audio_dir: where the sounds lie that a file names.

    Raises:
        ValueError: there is no such benchmark, or none of its records can be asked.
    """
    if source == "demo" and not Path(source).exists():
        return Benchmark("demo", list(read_demo()))
    found = HUB.get(source) if not Path(source).exists() else None
    if found is None and not Path(source).is_file():
        raise ValueError(f"--benchmark {source}: no such file; known by name are demo, {', '.join(HUB)}")
    paths = fetch_files(found) if found else [Path(source)]
    items: list[ChoiceItem] = []
    problems: list[Problem] = []
    for path in paths:
        for read in read_file(path, audio_dir, found.task if found else None):
            (items if isinstance(read, ChoiceItem) else problems).append(read)  # type: ignore[arg-type]
    if not items:
        reason = f"; the first of {len(problems)}: {problems[0]}" if problems else ""
        raise ValueError(f"--benchmark {source}: holds no question that can be asked{reason}")
    return Benchmark(source, items, problems, found.published if found else None)


def fetch_files(benchmark: HubBenchmark) -> list[Path]:
    """Return a benchmark's files, fetched from the Hub; raises ValueError."""
    from huggingface_hub import HfApi

    from descant.hub_client import ask_hub, fetch_file

    listing = partial(HfApi().list_repo_files, benchmark.repository, repo_type="dataset")
    names = sorted(ask_hub(listing, benchmark.repository))
    chosen = [name for name in names if re.fullmatch(benchmark.files, name)]
    if not chosen:
        raise ValueError(f"{benchmark.repository}: holds no file {benchmark.files}; found {', '.join(names[:8])}")
    return [fetch_file(benchmark.repository, name, kind="dataset") for name in chosen]


def read_file(path: Path, audio_dir: str | None = None, task: str | None = None) -> Iterator[ChoiceItem | Problem]:
    """Give the items of a file, and a Problem for each record that cannot be asked.

    task: only records whose field `task` says so.
    """
    if suffix_of(path) == ".parquet" and _has_sounds(path):
        yield from _read_shard(path, task)
        return
    folders = [Path(audio_dir)] if audio_dir else []
    for row, record in read_table(path).select(COLUMNS):
        if isinstance(record, Problem):
            yield record
        elif task is None or record.get("task") == task:
            yield _read_item(path, row, record, lambda found: _find_sound(found, [*folders, path.parent]))


def _has_sounds(path: Path) -> bool:
    from pyarrow import parquet

    try:
        find_audio_column(parquet.ParquetFile(path).schema_arrow, str(path))
    except ValueError:
        return False
    return True


def _read_shard(path: Path, task: str | None) -> Iterator[ChoiceItem | Problem]:
    """Give the items of a Parquet file that holds its sounds, which are read in place when they are asked about."""
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    column = find_audio_column(file.schema_arrow, str(path))
    row = -1
    for batch in file.iter_batches(16):
        for record in batch.to_pylist():
            row += 1
            sound = record.pop(column)
            if task is not None and record.get("task") != task:
                continue
            content = sound["bytes"] if isinstance(sound, dict) else sound
            place = f"{path}::{row}", hashlib.sha256(content or b"").hexdigest()
            yield _read_item(path, row, record, lambda _, place=place: place)


def _find_sound(record: Record, folders: Iterable[Path]) -> tuple[str, str]:
    """Return the path and the hash of the sound that a record names; raises ValueError."""
    named = next((str(record[name]) for name in AUDIO if record.get(name)), None)
    if named is None:
        raise ValueError(f"names no sound: give one of {', '.join(AUDIO)}")
    for path in (folder / name for folder in folders for name in (named, Path(named).name)):
        if path.is_file():
            return str(path), sha256_of(path)
    raise ValueError(f"{named}: no such sound file: pass --audio_dir")


def _read_item(path: Path, row: int, record: Record, find: Any) -> ChoiceItem | Problem:
    try:
        question, options, right = read_question(record)
        audio, digest = find(record)
    except Exception as error:  # whatever one record does, the others are read
        return name_problem(path, row, record.get("id"), error)
    topic = next((str(record[name]) for name in TOPICS if isinstance(record.get(name), str)), "")
    return ChoiceItem(str(record.get("id", row)), digest[:CLIP_DIGITS], audio, question, options, right, topic)


def read_question(record: Mapping[str, Any]) -> tuple[str, tuple[str, ...], int]:
    """Return the question of a published record, its options, and which of them is right; raises ValueError.

    The forms: MMAU's (`question`, `choices`: a list or its JSON, `answer`: an option's text), that of MuChoMusic's
    rows on the Hub (`instruction`, `choices`: one text with letters, `answer`: letter and text), and that of its own
    prompts (`prompt`, `answers`, `answer_orders`: 0 where the right one stands).
    """
    if "answer_orders" in record:
        options = tuple(map(str, record["answers"]))
        asked = read_options(record["prompt"])[0]
        question = asked.removeprefix("Question:").removesuffix("Options:").strip()
        return _checked(question, options, record["answer_orders"].index(0))
    question = str(record.get("question") or record.get("instruction") or "").strip()
    choices = record["choices"]
    if isinstance(choices, str) and not choices.lstrip().startswith('["'):
        lettered = read_options(choices)[1]
        right = re.match(r"\(?([A-Z])\b", str(record["answer"]))
        if not lettered or right is None or right[1] not in lettered:
            raise ValueError(f"the answer {record['answer']!r} has the letter of none of the options")
        return _checked(question, tuple(lettered.values()), list(lettered).index(right[1]))
    options = tuple(str(one).strip() for one in (json.loads(choices) if isinstance(choices, str) else choices))
    same = [number for number, option in enumerate(options) if option.lower() == str(record["answer"]).strip().lower()]
    if len(same) != 1:
        raise ValueError(f"the answer {record['answer']!r} is not one of the options")
    return _checked(question, options, same[0])


def _checked(question: str, options: tuple[str, ...], right: int) -> tuple[str, tuple[str, ...], int]:
    if not question:
        raise ValueError("the question is empty")
    if not 2 <= len(options) <= MOST_OPTIONS or len(set(options)) < len(options) or not all(options):
        raise ValueError(f"{len(options)} options: give 2 to {MOST_OPTIONS} different ones, none empty")
    return question, options, right


def read_demo(split: str = "test") -> Iterator[ChoiceItem]:
    """Give the demo's closed questions whose answer is one term, as choices among terms of the same question type.

    The other options, at most three, and the order are drawn by the question and a fixed seed.
    """
    rows = [row for row in load_demo()[split] if row.question and is_closed(row.question_type)]
    named = [(row, canonical_answer(row.answer, row.question_type)) for row in rows]
    single = [(row, next(iter(terms))) for row, terms in named if isinstance(terms, frozenset) and len(terms) == 1]
    terms = {kind: sorted({term for row, term in single if row.question_type == kind})
             for kind in {row.question_type for row, _ in single}}  # fmt: skip
    for row, answer in single:
        name = f"{row.clip_id} {row.question_type}"
        drawn = random.Random(f"{DEMO_SEED} {name}")  # noqa: S311 - no secret
        others = [term for term in terms[row.question_type] if term != answer]
        options = [answer, *drawn.sample(others, min(DEMO_OPTIONS - 1, len(others)))]
        if len(options) < 2 or row.question is None:
            continue
        drawn.shuffle(options)
        audio = demo_dir() / "audio" / f"{row.clip_id}.ogg"
        yield ChoiceItem(
            name, row.clip_id, str(audio), row.question, tuple(options), options.index(answer), row.question_type or ""
        )
