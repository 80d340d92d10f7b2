"""CSV, JSON, JSON Lines and Parquet tables read record by record, every damaged record named instead of lost."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class AnnotationError(ValueError):
    """A file that cannot be read as annotations at all."""


@dataclass(frozen=True)
class Problem:
    """One record that was left out: `row` is a line of a CSV or JSONL file, a 1-based position in a JSON list."""

    file: str
    row: int | None
    clip_id: str | None
    reason: str

    def __str__(self) -> str:
        place = self.file if self.row is None else f"{self.file}:{self.row}"
        return f"{place}: {self.clip_id}: {self.reason}" if self.clip_id else f"{place}: {self.reason}"


def read_table(path: str | Path, required: list[set[str]]) -> Iterator[tuple[int, Record | Problem]]:
    """Yields (row, record) or (row, problem) from a .csv, .jsonl, .json or .parquet file.

    `required` lists alternatives: a record needs every column of one of the sets. A CSV whose header has none of them
    is refused with `AnnotationError`; in the JSON forms each record is judged by itself. Text is UTF-8, with or
    without a byte order mark; a record with other bytes is a problem.
    """
    path = Path(path)
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".json": _read_json, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise AnnotationError(f"{path}: annotations are {', '.join(readers)} files, not {path.suffix!r}")
    for row, record in readers[path.suffix.lower()](path, required):
        yield row, _checked(path, row, record, required)


def column_names(path: str | Path) -> set[str]:
    """The columns of a CSV file's header, or of a JSONL file's first record."""
    first = next(iter(_read_text(Path(path)).split("\n")), "")
    if Path(path).suffix.lower() == ".csv":
        return {name.strip() for name in next(csv.reader([first]), [])}
    try:
        record = json.loads(first)
    except ValueError:
        return set()
    return set(record) if isinstance(record, dict) else set()


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}") from error


def _checked(path: Path, row: int, record: Any, required: list[set[str]]) -> Record | Problem:
    if isinstance(record, Problem):
        return record
    if not isinstance(record, dict):
        return Problem(str(path), row, None, f"a record is an object with named fields, not {type(record).__name__}")
    if any(_has_foreign_bytes(value) for value in record.values()):
        return Problem(str(path), row, None, "not UTF-8 text; save the file as UTF-8")
    if not any(columns <= record.keys() for columns in required):
        return Problem(str(path), row, None, f"has no {_missing(record, required)}")
    return record


def _has_foreign_bytes(value: Any) -> bool:
    return isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value)


def _missing(record: Record, required: list[set[str]]) -> str:
    return " or ".join(", ".join(sorted(columns - record.keys())) for columns in required)


def _read_csv(path: Path, required: list[set[str]]) -> Iterator[tuple[int, Record | Problem]]:
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    header = [name.strip() for name in next(reader, [])]
    if not any(columns <= set(header) for columns in required):
        found = ", ".join(header) or "nothing"
        raise AnnotationError(f"{path}:1: missing column {_missing(dict.fromkeys(header), required)}; found {found}")
    while True:
        row = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield row, Problem(str(path), row, None, f"broken CSV: {error}")
            continue
        if not values:
            continue
        if len(values) != len(header):
            yield row, Problem(str(path), row, None, f"has {len(values)} fields where the header names {len(header)}")
            continue
        yield row, dict(zip(header, values, strict=True))


def _read_jsonl(path: Path, required: list[set[str]]) -> Iterator[tuple[int, Any]]:
    for row, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield row, json.loads(line)
        except ValueError as error:
            yield row, Problem(str(path), row, None, f"broken JSON: {error}")


def _read_parquet(path: Path, required: list[set[str]]) -> Iterator[tuple[int, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise AnnotationError(f"{path}: cannot be read: {error}") from error
    yield from enumerate(table.to_pylist(), start=1)


def _read_json(path: Path, required: list[set[str]]) -> Iterator[tuple[int, Any]]:
    """A list of objects, bare or as in `{"QA": [...]}`; a cut-off file yields what stands before the damage."""
    text = _read_text(path)
    try:
        table = json.loads(text)
    except ValueError as error:
        yield from _salvage(path, text, error)
        return
    if isinstance(table, dict):
        lists = [value for value in table.values() if isinstance(value, list)]
        if len(lists) != 1:
            raise AnnotationError(f'{path}: expected one list of records, as in {{"QA": [...]}}; found {len(lists)}')
        table = lists[0]
    if not isinstance(table, list):
        raise AnnotationError(f'{path}: expected a list of records, as in {{"QA": [...]}}')
    yield from enumerate(table, start=1)


def _salvage(path: Path, text: str, error: ValueError) -> Iterator[tuple[int, Any]]:
    """Reads a broken list record by record up to the damage, which becomes the last problem."""
    decoder = json.JSONDecoder()
    position, row = text.find("[") + 1, 1
    while position:
        position = _skip(text, position)
        try:
            record, position = decoder.raw_decode(text, position)
        except ValueError:
            break
        yield row, record
        row += 1
    yield row, Problem(str(path), row, None, f"broken JSON, nothing after it was read: {error}")


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n,":
        position += 1
    return position


_URL = re.compile(r"https?://")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def locate(source: str | Path, endings: Sequence[str]) -> list[Path]:
    """The files of a source whose names end in the first of `endings` that any of them has.

    Args:
        source: a file, a folder, a URL, or the id of a Hub dataset. A single file or URL is taken whatever its name.
        endings: such as ["_short.json", ".json"], the more exact first.

    Raises:
        ValueError: nothing is there.
    """
    text, path = str(source), Path(source)
    if _URL.match(text):
        return [_download(text)]
    if path.is_file():
        return [path]
    if path.is_dir():
        names = [str(file.relative_to(path)) for file in sorted(path.rglob("*")) if file.is_file()]
        return [path / name for name in _pick(names, endings, text)]
    if not _HUB_ID.fullmatch(text):
        raise ValueError(f"{source}: no such file, folder or Hub dataset")
    return _locate_on_hub(text, endings)


def is_one_file(source: str | Path) -> bool:
    """Whether a source is a single file or URL, which is taken whatever its name."""
    return bool(_URL.match(str(source))) or Path(source).is_file()


def hash_source(source: str | Path) -> str:
    """A hash of the content of a local file or folder, of the name of a Hub dataset or URL."""
    path, digest = Path(source), hashlib.sha256()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files:
        digest.update(file.read_bytes() if file.is_file() else str(source).encode())
    return digest.hexdigest()


def _locate_on_hub(repo_id: str, endings: Sequence[str]) -> list[Path]:
    from huggingface_hub import HfApi

    from descant.hub_client import MissingError, ask_hub, fetch_file

    try:
        names = sorted(ask_hub(partial(HfApi().list_repo_files, repo_id, repo_type="dataset"), repo_id))
    except MissingError as error:
        raise ValueError(f"{repo_id}: neither a file here nor a Hub dataset that can be read: {error}") from error
    return [fetch_file(repo_id, name, kind="dataset") for name in _pick(names, endings, repo_id)]


def _pick(names: Sequence[str], endings: Sequence[str], source: str) -> list[str]:
    for ending in endings:
        picked = [name for name in names if name.endswith(ending)]
        if picked:
            return picked
    found = ", ".join(names[:8]) or "nothing"
    wanted = " or ".join(endings)
    raise ValueError(f"{source}: holds no file that ends in {wanted}; found {found}. Name the file itself")


def _download(url: str) -> Path:
    """datasets keeps what it fetched under a name without suffix, by which a table's kind is told."""
    from datasets import DownloadManager

    try:
        fetched = Path(DownloadManager().download(url))
    except (OSError, ValueError) as error:
        raise ValueError(f"{url}: cannot be fetched: {error}") from error
    named = fetched.with_name(fetched.name + Path(url.split("?")[0]).suffix)
    if not named.exists():
        named.symlink_to(fetched.name)
    return named
