"""MusicCaps, MusicInstruct, LP-MusicCaps-MC and own tables as typed rows, with every refused record named."""

import ast
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from descant.data.tables import AnnotationError, Columns, Problem, Record, Table, name_problem, read_table

logger = logging.getLogger(__name__)
SPLITS = ("train", "validation", "test")
OWN_WINDOW_S = 10.0
SHOWN_PROBLEMS = 20  # of a table that is refused; of one that is used, all
OWN_COLUMNS: Columns = (frozenset({"audio", "question", "answer"}), frozenset({"audio", "caption"}))
QUESTION_COLUMNS: Columns = (frozenset({"ytid", "question", "answer", "is_audioset_eval"}),)
MUSICCAPS_COLUMNS: Columns = (frozenset({"ytid", "start_s", "end_s", "caption", "is_audioset_eval"}),)
CAPTIONS = ("caption_writing", "caption_summary", "caption_paraphrase", "caption_attribute_prediction")
# A YouTube id may begin with "-" (107 of MusicCaps' do): it never stands where a command line would read an option.
_YTID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CLIP_ID = re.compile(r"\[([A-Za-z0-9_-]{1,64})\]-\[([0-9]{1,7}(?:\.[0-9]+)?)-([0-9]{1,7}(?:\.[0-9]+)?)\]")
_BREAKS_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # category Cc, and the line and paragraph separators
_TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


@dataclass(frozen=True)
class Row:
    """One question and answer (or caption: `question` is None) about one clip; times are seconds in its recording."""

    clip_id: str
    question: str | None
    answer: str
    question_type: str | None
    source: str
    start_s: float
    end_s: float
    split: str | None = None
    audio: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Annotations:
    """What a file holds: the good rows in the file's order, and each record that was left out."""

    rows: list[Row] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def log_problems(problems: Sequence[Problem], shown: int | None = None) -> None:
    """Log each record that was left out; at most `shown` of them, and the number of the others."""
    for problem in problems[:shown]:
        logger.warning("skipped %s", problem)
    if shown is not None and len(problems) > shown:
        logger.warning("skipped %d more", len(problems) - shown)


def make_clip_id(ytid: str, start_s: float, end_s: float) -> str:
    """Return `[ytid]-[start-end]`, whole seconds without a decimal point."""
    return f"[{ytid}]-[{start_s:g}-{end_s:g}]"


def parse_clip_id(clip_id: str) -> tuple[str, float, float] | None:
    """Return (ytid, start_s, end_s) of a MusicCaps clip id, None for any other id."""
    match = _CLIP_ID.fullmatch(clip_id)
    return (match[1], float(match[2]), float(match[3])) if match else None


def checked_id(name: str) -> str:
    """Return an id as it is: any text of one line, as file names are.

    Raises:
        ValueError: it is empty, or holds a control character or a line break.
    """
    if not name:
        raise ValueError("the id is empty")
    broken = _BREAKS_A_LINE.search(name)
    if broken:
        raise ValueError(f"the id {name!r} holds a control character or line break ({broken[0]!r}); give another id")
    return name


def clip_windows(rows: Iterable[Row]) -> dict[str, tuple[float, float]]:
    """Map each ytid to its (start_s, end_s), which MusicInstruct's records need and do not hold."""
    parsed = (parse_clip_id(row.clip_id) for row in rows)
    return {clip[0]: clip[1:] for clip in parsed if clip}


def read_annotations(path: str | Path) -> Annotations:
    """Read a table of one's own, of MusicCaps or of MusicInstruct.

    The header decides which it is; in the JSON forms, the fields that most of the records have.

    Raises:
        AnnotationError: the file cannot be read, or its header is that of none of the three.
    """
    table = read_table(path)
    readers: dict[Callable[[Table], Annotations], Columns] = {
        _read_own: OWN_COLUMNS, _read_questions: QUESTION_COLUMNS, _read_musiccaps: MUSICCAPS_COLUMNS,
    }  # fmt: skip
    fitting = {reader: (table.count(columns), table.overlap(columns)) for reader, columns in readers.items()}
    return max(fitting, key=lambda reader: fitting[reader])(table)  # the first of equals: one's own


def read_musiccaps(path: str | Path) -> Annotations:
    """Read the published CSV (or the same columns in another form). A clip id that stood before is refused."""
    return _read_musiccaps(read_table(path))


def read_music_instruct(
    path: str | Path, clips: Mapping[str, tuple[float, float]] | None = None, source: str = "music_instruct"
) -> Annotations:
    """Read `{"QA": [...]}`.

    `clips` gives each ytid its window (see `clip_windows`): a record of another ytid is then refused. Without it a
    record's own `start_s` and `end_s` count, and a record that has none is known by its ytid alone.
    """
    return _read_questions(read_table(path), clips, source)


def read_own(path: str | Path) -> Annotations:
    """Read a table with `audio, question, answer` or `audio, caption`.

    Optional columns: `split`, `question_type`, `clip_id`, `start_s` and `end_s` (else the first ten seconds). A
    relative audio path counts from the file's folder. The clip id is the audio file's stem (with its window, where one
    is given), so two files of one stem need a `clip_id` column. A row that gives an id to another file or window than
    an earlier row did is refused.
    """
    return _read_own(read_table(path))


def read_lp_musiccaps_mc(
    paths: Sequence[str | Path], clips: Mapping[str, tuple[float, float]], splits: Mapping[str, str | None]
) -> Annotations:
    """Read the four pseudo captions of each TRAINING clip; a test clip keeps to the captions that people wrote.

    Args:
        paths: the dataset's files (Parquet as published, CSV or JSONL).
        clips: ytid → (start_s, end_s), see `clip_windows`.
        splits: clip id → split, from MusicCaps.
    """
    annotations = Annotations()
    for path in paths:
        for number, record in read_table(path).select([frozenset({"ytid", *CAPTIONS})]):
            if isinstance(record, Problem):
                annotations.problems.append(record)
            else:
                _add_pseudo_captions(annotations, path, number, record, clips, splits)
    return annotations


def _read_musiccaps(table: Table) -> Annotations:
    seen: dict[str, int] = {}

    def make_row(number: int, record: Record) -> Row:
        row = _musiccaps_row(record)
        first = seen.setdefault(row.clip_id, number)
        if first != number:
            raise ValueError(f"the same clip stands in row {first}")
        return row

    return _read_rows(table, MUSICCAPS_COLUMNS, make_row)


def _read_questions(
    table: Table, clips: Mapping[str, tuple[float, float]] | None = None, source: str = "music_instruct"
) -> Annotations:
    return _read_rows(table, QUESTION_COLUMNS, lambda _, record: _question_row(record, clips, source))


def _read_own(table: Table) -> Annotations:
    owners: dict[str, tuple[int, Row]] = {}
    folder = table.path.resolve().parent

    def make_row(number: int, record: Record) -> Row:
        row = _own_row(record, folder)
        first, owner = owners.setdefault(row.clip_id, (number, row))
        if _sound_of(row) != _sound_of(owner):
            raise ValueError(
                f"clip id {row.clip_id!r} names {_sound_of(row)} where row {first} names {_sound_of(owner)}; "
                "give each its own id in a clip_id column"
            )
        return row

    return _read_rows(table, OWN_COLUMNS, make_row)


def _sound_of(row: Row) -> str:
    return f"{row.audio} from {row.start_s:.10g} to {row.end_s:.10g} s"


def _read_rows(table: Table, columns: Columns, make_row: Callable[[int, Record], Row]) -> Annotations:
    annotations = Annotations()
    for number, record in table.select(columns):
        if isinstance(record, Problem):
            annotations.problems.append(record)
            continue
        try:
            annotations.rows.append(make_row(number, record))
        except Exception as error:  # whatever one record does, the others are read
            annotations.problems.append(name_problem(table.path, number, _name_of(record), error))
    return annotations


def _name_of(record: Record) -> object:
    return record.get("ytid") or record.get("clip_id") or record.get("audio")


def _musiccaps_row(record: Record) -> Row:
    ytid = _safe_id(record["ytid"], "ytid")
    start_s, end_s = _window(record)
    answer, split = _text(record, "caption"), _split_of(record)
    clip_id = make_clip_id(ytid, start_s, end_s)
    return Row(clip_id, None, answer, None, "musiccaps", start_s, end_s, split, tags=_tags(record))


def _question_row(record: Record, clips: Mapping[str, tuple[float, float]] | None, source: str) -> Row:
    ytid = _safe_id(record["ytid"], "ytid")
    if clips is not None and ytid not in clips:
        raise ValueError("has no clip of this ytid in the MusicCaps annotations")
    window = clips[ytid] if clips is not None else _optional_window(record)
    start_s, end_s = window or (0.0, OWN_WINDOW_S)
    question, answer = _text(record, "question"), _text(record, "answer")
    clip_id = make_clip_id(ytid, start_s, end_s) if window else ytid
    kind, split = _optional(record, "question_type"), _split_of(record)
    return Row(clip_id, question, answer, kind, source, start_s, end_s, split)


def _own_row(record: Record, folder: Path) -> Row:
    audio = _file_name(record, "audio", folder)
    window = _optional_window(record)
    start_s, end_s = window or (0.0, OWN_WINDOW_S)
    stem = Path(audio).stem
    clip_id = _optional(record, "clip_id") or (make_clip_id(stem, start_s, end_s) if window else stem)
    split = _optional(record, "split")
    if split not in (None, *SPLITS):
        raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
    captioned = "caption" in record and _optional(record, "answer") is None
    question = None if captioned else _text(record, "question")
    answer = _text(record, "caption" if captioned else "answer")
    kind = _optional(record, "question_type")
    return Row(checked_id(clip_id), question, answer, kind, "own", start_s, end_s, split, str(folder / audio),
               _tags(record))  # fmt: skip


def _add_pseudo_captions(
    annotations: Annotations, path: str | Path, number: int, record: Record, clips: Mapping[str, tuple[float, float]],
    splits: Mapping[str, str | None],
) -> None:  # fmt: skip
    """Add the four captions of one record; an empty one is a problem of its own."""
    try:
        ytid = _safe_id(record["ytid"], "ytid")
        if ytid not in clips:
            raise ValueError("has no clip of this ytid in the MusicCaps annotations")
    except Exception as error:
        annotations.problems.append(name_problem(path, number, record["ytid"], error))
        return
    clip_id = make_clip_id(ytid, *clips[ytid])
    for name in CAPTIONS if splits[clip_id] != "test" else ():
        source = f"lp_musiccaps_mc_{name.removeprefix('caption_')}"
        try:
            caption = _text(record, name)
            annotations.rows.append(Row(clip_id, None, caption, None, source, *clips[ytid], splits[clip_id]))
        except Exception as error:
            annotations.problems.append(name_problem(path, number, clip_id, error))


def _tags(record: Record) -> tuple[str, ...]:
    """Return the aspect list: a list, the text of a Python list (as published), or words between commas."""
    name = "aspect_list" if not _is_missing(record.get("aspect_list")) else "tags"
    return () if _is_missing(record.get(name)) else tuple(parse_tags(record[name], name))


def parse_tags(value: object, name: str = "aspect_list") -> list[str]:
    """Return the tags in a list, in the text of a Python list (as MusicCaps has them), or between commas.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value) if value.startswith("[") else value.split(",")
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise ValueError(f"{name} {value!r:.100} is not a list") from error
    if not isinstance(value, list) or not all(isinstance(tag, str | int | float) for tag in value):
        raise ValueError(f"{name} is {type(value).__name__}, not a list of texts")
    return [str(tag).strip() for tag in value]


def _safe_id(value: object, name: str) -> str:
    if not isinstance(value, str) or not _YTID.fullmatch(value):
        raise ValueError(f"{name} {value!r:.100} is not a YouTube id (letters, digits, - and _ only)")
    return value


def _text(record: Record, name: str) -> str:
    return _filled(record, name).strip()


def _filled(record: Record, name: str) -> str:
    value = record[name]
    if _is_missing(value) or isinstance(value, str) and not value.strip():
        raise ValueError(f"{name} is empty")
    if not isinstance(value, str):
        raise ValueError(f"{name} is {type(value).__name__}, not text")
    if "\0" in value:
        raise ValueError(f"{name} holds a NUL character")
    return value


def _file_name(record: Record, name: str, folder: Path) -> str:
    """Return the text without blanks around it, unless they belong to a file's name."""
    value = _filled(record, name)
    return value if value != value.strip() and (folder / value).is_file() else value.strip()


def _optional(record: Record, name: str) -> str | None:
    value = record.get(name)
    if _is_missing(value):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{name} is {type(value).__name__}, not text")
    return str(value).strip() or None


def _is_missing(value: object) -> bool:
    """Whether a cell holds nothing: also pandas writes NaN there."""
    return value is None or value == "" or isinstance(value, float) and math.isnan(value)


def _optional_window(record: Record) -> tuple[float, float] | None:
    given = [name for name in ("start_s", "end_s") if _optional(record, name) is not None]
    if len(given) == 1:
        raise ValueError(f"has {given[0]} alone: give both start_s and end_s, or neither")
    return _window(record) if given else None


def _window(record: Record) -> tuple[float, float]:
    try:
        start_s, end_s = float(record["start_s"]), float(record["end_s"])
    except (KeyError, TypeError, ValueError, OverflowError):
        given = f"start_s {record.get('start_s')!r:.50}, end_s {record.get('end_s')!r:.50}"
        raise ValueError(f"{given} are not seconds") from None
    if not 0 <= start_s < end_s < 1e6:
        raise ValueError(f"end_s {end_s:g} does not come after start_s {start_s:g} (both from 0 on, under 1e6)")
    return start_s, end_s


def _split_of(record: Record) -> str:
    value = str(record["is_audioset_eval"]).strip().lower()
    if value not in _TRUTH:
        raise ValueError(f"is_audioset_eval {record['is_audioset_eval']!r:.50} is neither true nor false")
    return "test" if _TRUTH[value] else "train"


__all__ = [
    "AnnotationError",
    "Annotations",
    "Problem",
    "Row",
    "checked_id",
    "clip_windows",
    "log_problems",
    "make_clip_id",
    "parse_clip_id",
    "parse_tags",
    "read_annotations",
    "read_lp_musiccaps_mc",
    "read_music_instruct",
    "read_musiccaps",
    "read_own",
]
