"""Clips out of a Hub dataset (or a local one) that has an audio column, decoded without torchcodec."""

from collections.abc import Iterable

from descant.data.annotations import Row
from descant.data.clip_audio import ClipColumn
from descant.data.splits import recording_of

KEY_COLUMNS = ("clip_id", "ytid", "fname", "youtube_id", "id")


def find_hub_clips(rows: Iterable[Row], dataset: str) -> dict[str, ClipColumn]:
    """The rows' clips that a dataset holds, known by `<clip_id>` or `<ytid>` in one of `KEY_COLUMNS`.

    Raises ValueError for a dataset without an audio column, or without a column of ids.
    """
    from datasets import Audio, load_dataset

    cells: dict[str, tuple] = {}
    for part in load_dataset(dataset).values():
        column = next((name for name, kind in part.features.items() if isinstance(kind, Audio)), None)
        key = next((name for name in KEY_COLUMNS if name in part.features), None)
        if column is None or key is None:
            found = ", ".join(part.features)
            raise ValueError(f"{dataset}: needs an audio column and one of {', '.join(KEY_COLUMNS)}; has {found}")
        part = part.cast_column(column, Audio(decode=False))
        cells |= {name: (part, index, column) for index, name in enumerate(part[key])}
    return {
        row.clip_id: ClipColumn(*cells[name], row.start_s, row.end_s)
        for row in rows
        for name in (row.clip_id, recording_of(row.clip_id))
        if name in cells
    }
