"""MusicCaps, MusicInstruct and one's own annotation files as typed rows, with every refused record named."""

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from descant.data.tables import AnnotationError, Problem, Record, read_table

  # fmt: skip

SPLITS = ("train", "validation", "test")
OWN_WINDOW_S = 10.0
# A YouTube id may begin with "-" (107 of MusicCaps' do): it never stands where a command line would read an option.
_YTID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CLIP_ID = re.compile(r"\[([A-Za-z0-9_-]{1,64})\]-\[([0-9.]+)-([0-9.]+)\]")
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


def make_clip_id(ytid: str, start_s: float, end_s: float) -> str:
    """`[ytid]-[start-end]`, whole seconds without a decimal point."""
    return f"[{ytid}]-[{start_s:g}-{end_s:g}]"


def parse_clip_id(clip_id: str) -> tuple[str, float, float] | None:
    """(ytid, start_s, end_s) of a MusicCaps clip id, None for any other id."""
    match = _CLIP_ID.fullmatch(clip_id)
    return (match[1], float(match[2]), float(match[3])) if match else None


def clip_windows(rows: Iterable[Row]) -> dict[str, tuple[float, float]]:
    """ytid → (start_s, end_s), which MusicInstruct's records need and do not hold."""
    parsed = (parse_clip_id(row.clip_id) for row in rows)
    return {clip[0]: clip[1:] for clip in parsed if clip}


def read_musiccaps(path: str | Path) -> Annotations:
    """Reads the published CSV (or the same columns as JSONL). A clip id that stood before is refused."""
    required = {"ytid", "start_s", "end_s", "caption", "is_audioset_eval"}
    found, seen = Annotations(), {}
    for number, record in read_table(path, [required]):
        row = record if isinstance(record, Problem) else _named(path, number, record, _musiccaps_row)
        if isinstance(row, Row) and row.clip_id in seen:
            row = Problem(str(path), number, row.clip_id, f"the same clip stands in row {seen[row.clip_id]}")
        if isinstance(row, Row):
            seen[row.clip_id] = number
        _keep(found, row)
    return found


def read_music_instruct(
    path: str | Path, clips: Mapping[str, tuple[float, float]] | None = None, source: str = "music_instruct"
) -> Annotations:
    """Reads `{"QA": [...]}`.

    `clips` gives each ytid its window (see `clip_windows`): a record of another ytid is then refused. Without it a
    record's own `start_s` and `end_s` count, and a record that has none is known by its ytid alone.
    """
    found = Annotations()
    for number, record in read_table(path, [{"ytid", "question", "answer", "is_audioset_eval"}]):
        if not isinstance(record, Problem):
            record = _named(path, number, record, lambda fields: _question_row(fields, clips, source))
        _keep(found, record)
    return found


def read_own(path: str | Path) -> Annotations:
    """Reads a CSV or JSONL with `audio, question, answer` or `audio, caption`.

    Optional columns: `split`, `question_type`, `clip_id`, `start_s` and `end_s` (else the first ten seconds). A
    relative audio path counts from the file's folder. The clip id is the audio file's stem (with its window, where one
    is given), so two files of one stem need a `clip_id` column. A row that gives an id to another file or window than
    an earlier row did is refused.
    """
    found, owners = Annotations(), {}
    folder = Path(path).resolve().parent
    for number, record in read_table(path, [{"audio", "question", "answer"}, {"audio", "caption"}]):
        row = record if isinstance(record, Problem) else _named(path, number, record, lambda r: _own_row(r, folder))
        if isinstance(row, Row):
            first, owner = owners.setdefault(row.clip_id, (number, row))
            if _sound_of(row) != _sound_of(owner):
                reason = f"names {_sound_of(row)} where row {first} names {_sound_of(owner)}"
                row = Problem(str(path), number, row.clip_id, f"{reason}; give each its own id in a clip_id column")
        _keep(found, row)
    return found


def _sound_of(row: Row) -> str:
    return f"{row.audio} from {row.start_s:.10g} to {row.end_s:.10g} s"


def _keep(found: Annotations, row: Row | Problem) -> None:
    (found.problems if isinstance(row, Problem) else found.rows).append(row)


def _named(path: str | Path, number: int, record: Record, make_row) -> Row | Problem:
    try:
        return make_row(record)
    except ValueError as error:
        name = record.get("ytid") or record.get("clip_id") or record.get("audio")
        return Problem(str(path), number, None if name is None else str(name), str(error))


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
    timed = clips is not None or "start_s" in record
    start_s, end_s = clips[ytid] if clips is not None else _window(record) if timed else (0.0, OWN_WINDOW_S)
    question, answer = _text(record, "question"), _text(record, "answer")
    clip_id = make_clip_id(ytid, start_s, end_s) if timed else ytid
    kind, split = _optional(record, "question_type"), _split_of(record)
    return Row(clip_id, question, answer, kind, source, start_s, end_s, split)


def _own_row(record: Record, folder: Path) -> Row:
    audio = _text(record, "audio")
    timed = _optional(record, "start_s") is not None
    start_s, end_s = _window(record) if timed else (0.0, OWN_WINDOW_S)
    stem = Path(audio).stem
    clip_id = _optional(record, "clip_id") or (make_clip_id(stem, start_s, end_s) if timed else stem)
    split = _optional(record, "split")
    if split not in (None, *SPLITS):
        raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
    captioned = "caption" in record and _optional(record, "answer") is None
    question = None if captioned else _text(record, "question")
    answer = _text(record, "caption" if captioned else "answer")
    kind = _optional(record, "question_type")
    return Row(_one_line(clip_id), question, answer, kind, "own", start_s, end_s, split, str(folder / audio),
               _tags(record))  # fmt: skip


def _tags(record: Record) -> tuple[str, ...]:
    """The aspect list: a list, the text of a Python list (as published), or words between commas."""
    value = record.get("aspect_list") or record.get("tags") or ()
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value) if value.startswith("[") else value.split(",")
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"aspect_list {value!r} is not a list") from error
    return tuple(str(tag).strip() for tag in value)


def _safe_id(value: object, name: str) -> str:
    if not isinstance(value, str) or not _YTID.fullmatch(value):
        raise ValueError(f"{name} {value!r} is not a YouTube id (letters, digits, - and _ only)")
    return value


def _one_line(value: str) -> str:
    if not value or len(value) > 200 or not value.isprintable():
        raise ValueError(f"clip id {value!r} is empty, over 200 characters or has control characters")
    return value


def _text(record: Record, name: str) -> str:
    value = record[name]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is empty" if value in (None, "") or isinstance(value, str) else f"{name} is no text")
    if "\0" in value:
        raise ValueError(f"{name} holds a NUL character")
    return value.strip()


def _optional(record: Record, name: str) -> str | None:
    value = record.get(name)
    return str(value).strip() or None if value is not None else None


def _window(record: Record) -> tuple[float, float]:
    try:
        start_s, end_s = float(record["start_s"]), float(record["end_s"])
    except (KeyError, TypeError, ValueError):
        found = f"start_s {record.get('start_s')!r}, end_s {record.get('end_s')!r}"
        raise ValueError(f"{found} are not seconds") from None
    if not 0 <= start_s < end_s < 1e6:
        raise ValueError(f"end_s {end_s:g} does not come after start_s {start_s:g} (both from 0 on)")
    return start_s, end_s


def _split_of(record: Record) -> str:
    value = str(record["is_audioset_eval"]).strip().lower()
    if value not in _TRUTH:
        raise ValueError(f"is_audioset_eval {record['is_audioset_eval']!r} is neither true nor false")
    return "test" if _TRUTH[value] else "train"


CAPTIONS = ("caption_writing", "caption_summary", "caption_paraphrase", "caption_attribute_prediction")


def read_lp_musiccaps_mc(
    paths: Sequence[str | Path], clips: Mapping[str, tuple[float, float]], splits: Mapping[str, str]
) -> Annotations:
    """Rows of the four pseudo captions of each TRAINING clip; a test clip keeps to the captions that people wrote.

    Args:
        paths: the dataset's files (Parquet as published, CSV or JSONL).
        clips: ytid → (start_s, end_s), see `clip_windows`.
        splits: clip id → split, from MusicCaps.
    """
    found = Annotations()
    for path in paths:
        for number, record in read_table(path, [{"ytid", *CAPTIONS}]):
            if isinstance(record, Problem):
                found.problems.append(record)
            elif record["ytid"] not in clips:
                reason = "has no clip of this ytid in the MusicCaps annotations"
                found.problems.append(Problem(str(path), number, str(record["ytid"]), reason))
            else:
                _add(found, record, clips[record["ytid"]], splits, Problem(str(path), number, record["ytid"], ""))
    return found


def _add(
    found: Annotations, record: Record, window: tuple[float, float], splits: Mapping[str, str], place: Problem
) -> None:
    clip_id = make_clip_id(record["ytid"], *window)
    if splits[clip_id] == "test":
        return
    for name in CAPTIONS:
        caption = record[name]
        if not isinstance(caption, str) or not caption.strip():
            found.problems.append(Problem(place.file, place.row, clip_id, f"{name} is empty"))
            continue
        source = f"lp_musiccaps_mc_{name.removeprefix('caption_')}"
        found.rows.append(Row(clip_id, None, caption.strip(), None, source, *window, splits[clip_id]))


__all__ = [
    "AnnotationError",
    "Annotations",
    "Problem",
    "Row",
    "clip_windows",
    "make_clip_id",
    "parse_clip_id",
    "read_music_instruct",
    "read_musiccaps",
    "read_own",
]
