"""The captions that LP-MusicCaps-MC adds to MusicCaps' clips, as typed rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from descant.data.annotations import Annotations, Problem, Row, make_clip_id
from descant.data.tables import Record, read_table

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
