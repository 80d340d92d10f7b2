"""Which clips a file or folder names, and in which of the given places the sound of each lies."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from descant.data.annotations import Annotations, Problem, Row, read_music_instruct, read_musiccaps, read_own
from descant.data.clip_audio import AUDIO_SUFFIXES, ClipAudio, find_clip_files, find_own_files
from descant.data.hub_audio import find_hub_clips
from descant.data.tables import column_names

TABLE_SUFFIXES = (".csv", ".jsonl", ".json", ".parquet")


def read_clip_list(source: str | Path) -> Annotations:
    """Rows of a MusicCaps, MusicInstruct or own table, told by its columns, or of the demo corpus (`demo`).

    A folder of sound files gives one row a file, with an empty answer.
    """
    path = Path(source)
    if str(source) == "demo":
        return _read_demo()
    if path.is_dir():
        return _read_folder(path)
    if path.suffix.lower() not in TABLE_SUFFIXES:
        known = ", ".join(TABLE_SUFFIXES)
        raise ValueError(f"{source}: is neither `demo`, a folder of sound files nor one of {known}")
    if path.suffix.lower() == ".json":
        return read_music_instruct(path)
    own = path.suffix.lower() != ".parquet" and "audio" in column_names(path)
    return read_own(path) if own else read_musiccaps(path)


def gather_clips(
    rows: Iterable[Row], audio_dirs: Sequence[str | Path] = (), hub_audio: Sequence[str] = ()
) -> dict[str, ClipAudio]:
    """Clip id → sound. A row's own file comes first, then the folders and the Hub datasets in their order."""
    rows = list(rows)
    places = [find_own_files(rows)]
    places += [find_clip_files(rows, folder) for folder in audio_dirs]
    places += [find_hub_clips(rows, dataset) for dataset in hub_audio]
    return {clip_id: sound for place in reversed(places) for clip_id, sound in place.items()}


def _read_demo() -> Annotations:
    from descant.data.demo import demo_dir, load_demo

    rows = [row for part in load_demo().values() for row in part]
    files = find_clip_files(rows, demo_dir() / "audio")
    clips = {row.clip_id: row for row in rows}
    return Annotations([replace(row, audio=files[clip_id].path) for clip_id, row in clips.items()])


def _is_sound(path: Path) -> bool:
    return path.suffix.lower() in (*AUDIO_SUFFIXES, ".npy") and not path.name.startswith(".")


def _read_folder(folder: Path) -> Annotations:
    found, files = Annotations(), {}
    for path in sorted(folder.rglob("*")):
        if not _is_sound(path):
            continue
        if files.setdefault(path.stem, path) is not path:
            reason = f"has the name of {files[path.stem]}; a table with a clip_id column tells them apart"
            found.problems.append(Problem(str(path), None, path.stem, reason))
            continue
        found.rows.append(Row(path.stem, None, "", None, "folder", 0.0, 10.0, None, str(path)))
    return found
