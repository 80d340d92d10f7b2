"""Tables read record by record: CSV, JSON, JSON Lines and Parquet, from a file, a folder, a URL or the Hub.

A record that cannot be read is a named `Problem`, and those after it are read all the same.
"""

import csv
import hashlib
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from descant.files import read_regular, replace_whole, sha256_of
from descant.program import shorten

log = logging.getLogger(__name__)

Record = dict[str, Any]
Columns = Collection[frozenset[str]]  # alternatives: a record needs every column of one of them

TABLE_SUFFIXES = (".csv", ".jsonl", ".json", ".parquet")
LONGEST_REASON = 400  # characters of a message: a record may hold megabytes
LONGEST_NUMBER = 400  # digits, beyond which no float has the number either
_LIST_OF_RECORDS = re.compile(r"\[\s*\{")
_STRUCTURE = re.compile(r'"(?:[^"\\\n]|\\.)*"|[\[\]{},]')  # a string ends in its line
_URL = re.compile(r"https?://")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_HUB_FILE = re.compile(r"hf://datasets/(?P<repo_id>[^/@]+/[^/@]+)@(?P<revision>[^/]+)/(?P<name>.+)")
_LINE_END = re.compile(r"\r\n|\n|\r")
_FOREIGN_BYTE = re.compile("[\ud800-\udfff]")  # what `surrogateescape` makes of a byte that is not UTF-8


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
        where = self.file if self.row is None else f"{self.file}:{self.row}"
        return f"{where}: {self.clip_id}: {self.reason}" if self.clip_id else f"{where}: {self.reason}"


def name_problem(path: str | Path, row: int | None, name: object, error: Exception) -> Problem:
    """Return what went wrong with a record as its Problem, whatever kind of exception it raised."""
    known = isinstance(name, str | int | float) and not isinstance(name, bool)
    return Problem(str(path), row, shorten(str(name), 100) if known else None, reason_of(error))


def reason_of(error: Exception) -> str:
    """Return what an exception says, on one line of bounded length, with its kind where that says more."""
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    text = " ".join(str(error).split())
    return shorten(text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}", LONGEST_REASON)


@dataclass(frozen=True)
class Table:
    """A table's records, each with its row, and the sets of columns that they have.

    headers: how often each set occurs: once in a CSV or Parquet file, once a record in the JSON forms.
    numbered: (row, record as it was read, or its problem).
    header: where the file's one header stands; None in the JSON forms, whose records are judged one by one.
    """

    path: Path
    headers: Counter[frozenset[str]]
    numbered: list[tuple[int, Any]]
    header: str | None = None

    def count(self, columns: Columns) -> int:
        """Return for how many headers (one, or one a record) all columns of one of the sets are there."""
        return sum(number for header, number in self.headers.items() if any(one <= header for one in columns))

    def overlap(self, columns: Columns) -> float:
        """Return the largest share of one of the sets that any header has."""
        return max((len(one & header) / len(one) for header in self.headers for one in columns), default=0.0)

    def select(self, columns: Columns) -> Iterator[tuple[int, Record | Problem]]:
        """Yield (row, record) or (row, problem).

        Raises:
            AnnotationError: the file has a header, which has none of the sets of columns.
        """
        if self.header is not None and not self.count(columns):
            (names,) = self.headers
            held = ", ".join(sorted(names)) or "nothing"
            raise AnnotationError(f"{self.header}: missing column {_missing(names, columns)}; found {held}")
        for row, record in self.numbered:
            yield row, self._checked(row, record, columns)

    def _checked(self, row: int, record: Any, columns: Columns) -> Record | Problem:
        if isinstance(record, Problem):
            return record
        try:
            if not isinstance(record, dict):
                raise ValueError(f"a record is an object with named fields, not {type(record).__name__}")
            if _has_foreign_bytes(record):
                raise ValueError("not UTF-8 text; save the file as UTF-8")
            if not any(one <= record.keys() for one in columns):
                raise ValueError(f"has no {_missing(record, columns)}")
        except Exception as error:  # whatever one record does, the others are read
            return name_problem(self.path, row, None, error)
        return record


def _has_foreign_bytes(value: Any) -> bool:
    if isinstance(value, str):
        return _FOREIGN_BYTE.search(value) is not None
    if isinstance(value, dict):
        return any(map(_has_foreign_bytes, (*value.keys(), *value.values())))
    return isinstance(value, list) and any(map(_has_foreign_bytes, value))


def _missing(header: Collection[str], columns: Columns) -> str:
    return " or ".join(", ".join(sorted(one - set(header))) for one in columns)


def read_table(path: str | Path) -> Table:
    """Read a .csv, .jsonl, .json or .parquet file.

    Text is UTF-8, with or without a byte order mark, and lines end as on any system. A JSON file holds a list of
    records, bare or as in `{"QA": [...]}`, or an object of records; of a damaged one the whole records are read.

    Raises:
        AnnotationError: no such file, another kind of file, text that is not UTF-8, or a broken header.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise AnnotationError(f"{path}: a table is one of {', '.join(TABLE_SUFFIXES)}, not {path.suffix!r}")
    if suffix == ".csv":
        return _read_csv(path)
    if suffix == ".parquet":
        return _read_parquet(path)
    numbered = list(read_json_lines(path) if suffix == ".jsonl" else read_json_records(path))
    headers = Counter(frozenset(record) for _, record in numbered if isinstance(record, dict))
    return Table(path, headers, numbered)


def _read_text(path: Path) -> str:
    try:
        content = read_regular(path)
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}") from error
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content[:2]:  # a byte order mark, or ASCII in pairs
        raise AnnotationError(f"{path}: is UTF-16 text; save it as UTF-8 (in Excel: CSV UTF-8)")
    return content.decode("utf-8-sig", errors="surrogateescape")


def _read_csv(path: Path) -> Table:
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    header = _read_header(path, reader)
    where = f"{path}:{max(reader.line_num, 1)}"
    return Table(path, Counter([frozenset(header)]), list(_csv_records(path, reader, header)), where)


def _read_header(path: Path, reader: Any) -> list[str]:
    """Return the names in the first line that holds anything."""
    try:
        cells: list[str] = next((cells for cells in reader if any(cell.strip() for cell in cells)), [])
    except csv.Error as error:
        raise AnnotationError(f"{path}:{reader.line_num}: broken CSV in the header: {error}") from error
    header = [name.strip() for name in cells]
    twice = [name for name, number in Counter(header).items() if name and number > 1]
    if twice:
        raise AnnotationError(f"{path}:{reader.line_num}: the header names the column {twice[0]!r} twice")
    return header


def _csv_records(path: Path, reader: Any, header: list[str]) -> Iterator[tuple[int, Record | Problem]]:
    while True:
        row = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield row, Problem(str(path), row, None, f"broken CSV: {error}")
            continue
        if len(cells) == len(header):
            yield row, dict(zip(header, cells, strict=True))
        elif any(cell.strip() for cell in cells):
            yield row, Problem(str(path), row, None, f"has {len(cells)} fields where the header names {len(header)}")


def _read_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise AnnotationError(f"{path}: cannot be read: {error}") from error
    try:
        records = table.to_pylist()
    except Exception:  # one cell that is no text or no time
        records = [_parquet_record(path, table, index) for index in range(len(table))]
    return Table(path, Counter([frozenset(table.column_names)]), list(enumerate(records, start=1)), str(path))


def _parquet_record(path: Path, table: Any, index: int) -> Record | Problem:
    try:
        (record,) = table.slice(index, 1).to_pylist()
        return record
    except Exception as error:
        return name_problem(path, index + 1, None, error)


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield (line, record or problem) of a JSON Lines file."""
    for row, line in enumerate(_LINE_END.split(_read_text(path)), start=1):
        if line.strip():
            yield row, _parse_json(path, row, line)


def _parse_json(path: Path, row: int, text: str) -> Any:
    try:
        return json.loads(text, parse_int=_parse_int)
    except ValueError as error:
        return Problem(str(path), row, None, f"broken JSON: {error}")
    except Exception as error:
        return name_problem(path, row, None, error)


def _parse_int(digits: str) -> int | float:
    return int(digits) if len(digits) <= LONGEST_NUMBER else float(digits)


def read_json_records(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield (1-based position, record or problem) of a JSON file that holds a list or an object of records.

    Raises:
        AnnotationError: it holds something else, or is broken before its first record ends.
    """
    text = _read_text(path)
    try:
        loaded = json.loads(text, parse_int=_parse_int)
    except (ValueError, RecursionError) as error:
        yield from _salvage(path, text, error)
        return
    if isinstance(loaded, dict):
        loaded = _records_within(path, loaded)
    if not isinstance(loaded, list):
        raise AnnotationError(f'{path}: expected a list of records, as in {{"QA": [...]}}; found {loaded!r:.60}')
    yield from enumerate(loaded, start=1)


def _records_within(path: Path, loaded: Record) -> list[Any]:
    """Return the one list that an object holds, or its values where all of them are records."""
    lists = [value for value in loaded.values() if isinstance(value, list)]
    if len(lists) == 1:
        return lists[0]
    if loaded and all(isinstance(value, dict) for value in loaded.values()):
        return list(loaded.values())
    raise AnnotationError(f'{path}: expected one list of records, as in {{"QA": [...]}}; found {len(lists)}')


def _salvage(path: Path, text: str, error: Exception) -> Iterator[tuple[int, Any]]:
    """Yield the records of a broken list one by one; the damage becomes a problem."""
    opening = _LIST_OF_RECORDS.search(text)
    if opening is None:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise AnnotationError(f"{path}: cannot be read as JSON: {reason}")
    row, damaged = 0, False
    for row, element in enumerate(_elements(text, opening.start() + 1), start=1):
        if element is None:
            yield row, Problem(str(path), row, None, f"broken JSON, nothing after it was read: {error}")
            return
        record = _parse_json(path, row, element)
        damaged = damaged or isinstance(record, Problem)
        yield row, record
    if not damaged:
        yield row + 1, Problem(str(path), row + 1, None, f"broken JSON after the list: {error}")


def _elements(text: str, position: int) -> Iterator[str | None]:
    """Yield the text of each element of a list that begins at `position`, then None where the list never ends."""
    depth, start = 0, position
    for token in _STRUCTURE.finditer(text, position):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
            if depth < 0:
                yield text[start : token.start()]
                return
        elif token[0] == "," and depth == 0:
            yield text[start : token.start()]
            start = token.end()
    yield None


def locate(source: str | Path, endings: Sequence[str]) -> list[Path]:
    """Return the files of a source whose names end in the first of `endings` that any of them has.

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
    """Return whether a source is a single file or URL, which is taken whatever its name."""
    return bool(_URL.match(str(source))) or Path(source).is_file()


def hash_source(source: str | Path) -> str:
    """Return a hash of the content of a local file or folder, of the name of a Hub dataset or URL."""
    path, digest = Path(source), hashlib.sha256()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files:
        digest.update(sha256_of(file).encode() if file.is_file() else str(source).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _locate_on_hub(repo_id: str, endings: Sequence[str]) -> list[Path]:
    from huggingface_hub import HfApi

    from descant.hub_client import MissingError, ask_hub, fetch_file

    try:
        names = sorted(ask_hub(partial(HfApi().list_repo_files, repo_id, repo_type="dataset"), repo_id))
    except MissingError as error:
        raise ValueError(f"{repo_id}: neither a file here nor a Hub dataset that can be read: {error}") from error
    return [fetch_file(repo_id, name, kind="dataset") for name in _pick(names, endings, repo_id)]


def fetch_dataset(dataset: str, config: str | None = None) -> list[Path]:
    """Fetch the files of a Hub dataset's configuration, all of them whole, and return them; of a folder here none.

    `load_dataset`, which checks nothing, then finds them in the cache. Raises ValueError as `hub_client.patiently`.
    """
    from descant.data.sources import list_dataset_files
    from descant.hub_client import fetch_file

    listed = [] if Path(dataset).exists() else list_dataset_files(dataset, config)
    return [fetch_file(**found.groupdict(), kind="dataset") for found in map(_HUB_FILE.fullmatch, listed) if found]


def _pick(names: Sequence[str], endings: Sequence[str], source: str) -> list[str]:
    for ending in endings:
        picked = [name for name in names if name.endswith(ending)]
        if picked:
            return picked
    held, asked = ", ".join(names[:8]) or "nothing", " or ".join(endings)
    raise ValueError(f"{source}: holds no file that ends in {asked}; found {held}. Name the file itself")


def _download(url: str) -> Path:
    """Fetch a URL and return the file in the cache, with the suffix that says how to read it.

    Where it is out of reach, the copy of an earlier call is taken, with a log line. Raises ValueError.
    """
    from huggingface_hub import cached_assets_path, constants, get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]  # lazy

    from descant.hub_client import NetworkError, ask_hub

    name = hashlib.sha256(url.encode()).hexdigest()[:32] + Path(url.split("?")[0]).suffix
    target = cached_assets_path("descant", "annotations", assets_dir=constants.HF_ASSETS_CACHE) / name
    headers = build_hf_headers() if url.startswith(f"{constants.ENDPOINT}/") else {}

    def fetch() -> None:
        with get_session().stream("GET", url, headers=headers) as response, replace_whole(target) as new:
            hf_raise_for_status(response)
            with new.open("wb") as file:
                for block in response.iter_bytes():
                    file.write(block)

    try:
        ask_hub(fetch, url, hub=url.split("/", 3)[2])
    except NetworkError as error:
        if not target.exists():
            raise ValueError(f"{url} cannot be fetched: {str(error).removeprefix(f'{url}: ')}") from error
        log.warning("%s; going on with the copy on this machine", error)
    return target
